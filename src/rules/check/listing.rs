//! Checks what a rule says about the list of games: `lists`, `title` and its like, `game_port`.

use super::place;
use super::rule::Around;
use crate::rules::file::{Findings, Item, Section};
use crate::rules::profile::{GamePort, Listing, PlainPort};
use crate::rules::ruleset::{RuleKind, Transport};
use std::ops::Range;

/// The keys of a rule that are about the list, not yet read.
pub(super) struct Told<'t> {
    lists: Option<Item<'t>>,
    title: Option<Item<'t>>,
    map: Option<Item<'t>>,
    version: Option<Item<'t>>,
    players: Option<Item<'t>>,
    max_players: Option<Item<'t>>,
    game_port: Option<Item<'t>>,
    span: Range<usize>,
}

impl<'t> Told<'t> {
    pub(super) fn take(section: &mut Section<'t>) -> Self {
        Self {
            lists: section.take("lists"),
            title: section.take("title"),
            map: section.take("map"),
            version: section.take("version"),
            players: section.take("players"),
            max_players: section.take("max_players"),
            game_port: section.take("game_port"),
            span: section.span.clone(),
        }
    }

    pub(super) fn read(
        self,
        kind: RuleKind,
        answers_from: bool,
        around: &Around<'_>,
        findings: &mut Findings,
    ) -> Option<Listing> {
        let lists = self.lists.as_ref().and_then(|item| item.truth(findings));
        let useless = match kind {
            RuleKind::Query => Some("a query does not describe a game"),
            RuleKind::Closing => Some("the game is over"),
            RuleKind::Announcement | RuleKind::Answer if lists == Some(false) => Some("`lists` is false"),
            RuleKind::Announcement | RuleKind::Answer => None,
        };
        if let Some(why) = useless {
            let of_use = kind == RuleKind::Closing;
            self.useless(kind.tells_of_a_game(), of_use, why, findings);
            // A closing packet may say which of several games is over.
            let port = self.game_port.filter(|_| of_use)?;
            let port = place::read_game_port(&port, findings)?;
            return Some(Listing {
                title: None,
                map: None,
                version: None,
                players: None,
                most_players: None,
                port,
            });
        }
        let text = |item: &Option<Item<'_>>, findings: &mut Findings| {
            item.as_ref().and_then(|item| place::read_text(item, findings))
        };
        let number = |item: &Option<Item<'_>>, findings: &mut Findings| {
            item.as_ref().and_then(|item| place::read_number(item, findings))
        };
        Some(Listing {
            title: text(&self.title, findings),
            map: text(&self.map, findings),
            version: text(&self.version, findings),
            players: number(&self.players, findings),
            most_players: number(&self.max_players, findings),
            port: self.port(kind, answers_from, around, findings)?,
        })
    }

    fn useless(&self, lists: bool, game_port: bool, why: &str, findings: &mut Findings) {
        let all = [
            self.lists.as_ref().filter(|_| !lists),
            self.title.as_ref(),
            self.map.as_ref(),
            self.version.as_ref(),
            self.players.as_ref(),
            self.max_players.as_ref(),
            self.game_port.as_ref().filter(|_| !game_port),
        ];
        for item in all.into_iter().flatten() {
            findings.add(&item.span, format!("`{}` is of no use here: {why}", item.key));
        }
    }

    fn port(
        &self,
        kind: RuleKind,
        answers_from: bool,
        around: &Around<'_>,
        findings: &mut Findings,
    ) -> Option<GamePort> {
        if let Some(item) = &self.game_port {
            return place::read_game_port(item, findings);
        }
        if kind == RuleKind::Answer && answers_from {
            return Some(GamePort::Plain(PlainPort::Source));
        }
        let first = match around.play.join {
            Transport::Tcp => around.play.tcp.first(),
            Transport::Udp => around.play.udp.first(),
        };
        if let Some(range) = first {
            return Some(GamePort::Plain(PlainPort::Fixed(*range.start())));
        }
        if around.plugin {
            return Some(GamePort::Plugin);
        }
        let help = if around.play.dynamic {
            "with `dynamic`, the packet must say where the port to join is"
        } else {
            "say where the port to join is, or name it in `[play]`"
        };
        findings.add_with_help(&self.span, "missing key `game_port` in [[rule]]", help);
        None
    }
}
