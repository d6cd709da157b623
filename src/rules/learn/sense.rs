//! What packets say: the sender's own address, the port to join, the title of the game.
//!
//! Addresses and ports are known from the packets' headers and from how the server was joined, so they are looked for as
//! such, in every packet of the kind. A title is known only when the person who made the capture says what it was, or when
//! two servers differ in nothing else; everything else is a guess and is called one.

use super::place::{Candidate, candidates, written, written_below};
use super::roles::{Group, Join};
use super::traffic::Datagram;
use crate::rules::locate::{Find, Locate};
use crate::rules::ports::LOWEST;
use crate::rules::ruleset::{RuleKind, Transport};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::Range;

/// What was found out, each as the profile says it, and why.
#[derive(Debug, Default)]
pub(super) struct Sense {
    pub(super) title: Option<Found>,
    pub(super) port: Option<Found>,
    pub(super) rewrites: Vec<Found>,
    /// Map, players and the like, by what the game calls them.
    pub(super) more: Vec<(&'static str, Found)>,
    /// Parts of the first payload that say something of this game only.
    pub(super) content: Vec<Range<usize>>,
    /// The receiver's own address is in there too: nothing can put the right one there.
    pub(super) holds_receiver: bool,
}

/// A value of a key in the profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The TOML of a table's inside, or a plain value.
    pub(super) toml: String,
    pub(super) why: String,
    pub(super) sure: bool,
}

/// Looks into the packets of a kind. `title` is what the person says the game was called.
pub(super) fn sense(group: &Group<'_>, joins: &[Join], title: Option<&str>) -> Sense {
    let Some(model) = group.members.first() else { return Sense::default() };
    let all = candidates(&model.payload);
    let mut it = Sense::default();
    it.addresses(group, model, &all);
    if group.kind.tells_of_a_game() {
        it.port(group, model, joins, &all);
        it.title(group, model, &all, title);
        it.by_name(&all);
    }
    for candidate in all.iter().filter(|c| c.range.len() >= 2 && candidate_is_content(&model.payload, c)) {
        it.content.push(candidate.range.clone());
    }
    it
}

/// Values of keys, and texts that stand alone and are longer than a protocol's magic word.
fn candidate_is_content(payload: &[u8], candidate: &Candidate) -> bool {
    match candidate.place.find {
        Find::Nul => candidate.range.len() > 4 && payload.get(candidate.range.end) == Some(&0),
        Find::Field(_, b' ') | Find::Field(0, _) => false,
        Find::Counted
        | Find::Counted32
        | Find::Wide
        | Find::Between(..)
        | Find::Key(..)
        | Find::Field(..) => true,
    }
}

/// The text at a place, in one packet.
fn at<'d>(place: &Locate, packet: &'d Datagram) -> Option<&'d [u8]> {
    packet.payload.get(place.find(&packet.payload)?)
}

impl Sense {
    fn addresses(&mut self, group: &Group<'_>, model: &Datagram, all: &[Candidate]) {
        let says = |d: &Datagram, c: &Candidate| {
            let text = at(&c.place, d).and_then(|t| std::str::from_utf8(t).ok())?;
            let (host, port) =
                text.rsplit_once(':').map_or((text, None), |(h, p)| (h, p.parse::<u16>().ok()));
            (host.trim().parse::<IpAddr>().ok()? == d.from.ip()).then_some(port.is_some())
        };
        for candidate in all {
            let forms: Vec<Option<bool>> = group.members.iter().map(|d| says(d, candidate)).collect();
            let known =
                self.content.iter().any(|r| r.start < candidate.range.end && candidate.range.start < r.end);
            let Some(Some(with_port)) =
                forms.first().copied().filter(|_| !known && forms.iter().all(Option::is_some))
            else {
                continue;
            };
            let form = if with_port { "host:port" } else { "host" };
            let why = "the sender's own address as text";
            self.rewrite(&candidate.place, form, why, candidate.range.clone());
        }
        for (form, reversed) in [("ipv4", false), ("ipv4-le", true)] {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(v4) if reversed => {
                    Some([v4.octets()[3], v4.octets()[2], v4.octets()[1], v4.octets()[0]])
                }
                IpAddr::V4(v4) => Some(v4.octets()),
                IpAddr::V6(_) => None,
            };
            let has = |d: &Datagram, i: usize, ip: IpAddr| {
                octets(ip).is_some_and(|o| d.payload.get(i..i + 4) == Some(&o[..]))
            };
            let v4: Vec<&&Datagram> = group.members.iter().filter(|d| d.from.is_ipv4()).collect();
            for i in 0..model.payload.len().saturating_sub(3) {
                if !v4.is_empty() && v4.iter().all(|d| has(d, i, d.from.ip())) {
                    let place = Locate {
                        at: u16::try_from(i).unwrap_or(u16::MAX),
                        skip: Box::default(),
                        find: Find::Nul,
                    };
                    self.rewrite(&place, form, "the sender's own address as four bytes", i..i + 4);
                }
                let receiver =
                    !v4.is_empty() && v4.iter().all(|d| d.to.ip() != d.from.ip() && has(d, i, d.to.ip()));
                self.holds_receiver |= receiver && group.kind == RuleKind::Answer;
            }
        }
        let text = |d: &&Datagram| {
            let own = d.to.ip().to_string();
            d.payload.windows(own.len()).any(|w| w == own.as_bytes())
        };
        self.holds_receiver |= group.kind == RuleKind::Answer && group.members.iter().any(text);
    }

    fn rewrite(&mut self, place: &Locate, form: &str, why: &str, range: Range<usize>) {
        if self.rewrites.len() < MOST_REWRITES {
            let toml = format!("{}\nas = \"{form}\"", written_below(place));
            self.rewrites.push(Found { toml, why: why.to_owned(), sure: true });
            self.content.push(range);
        }
    }

    /// The port to join: looked for as text, then as two bytes.
    fn port(&mut self, group: &Group<'_>, model: &Datagram, joins: &[Join], all: &[Candidate]) {
        let joined =
            |d: &Datagram| joins.iter().find(|j| j.server == d.from.ip() && !j.backwards).map(|j| j.port);
        let source = group.members.iter().all(|d| joined(d).is_none_or(|port| port == d.from.port()));
        let number = |d: &Datagram, c: &Candidate| {
            let text = at(&c.place, d).and_then(|t| std::str::from_utf8(t).ok())?;
            text.rsplit(':').next()?.trim().parse::<u16>().ok().filter(|port| *port >= LOWEST)
        };
        let or = if source && group.kind == RuleKind::Answer { ", or = \"source\"" } else { "" };
        for candidate in all {
            let right =
                |d: &&Datagram| number(d, candidate).is_some_and(|n| joined(d).is_none_or(|port| n == port));
            let named =
                matches!(candidate.label.as_str(), "ad" | "port" | "hostport" | "gameport" | "serverport");
            let known = group.members.iter().any(|d| joined(d).is_some());
            if (known || named) && group.members.iter().all(right) {
                let why = if known { "the port that was joined, as text" } else { "named like a port" };
                self.port = Some(Found {
                    toml: format!("{{ {}{or} }}", written(&candidate.place)),
                    why: why.to_owned(),
                    sure: known,
                });
                self.content.push(candidate.range.clone());
                self.host_in_front(model, candidate, all);
                return;
            }
        }
        if source {
            return;
        }
        for (form, big) in [("be", true), ("le", false)] {
            let two = |port: u16| if big { port.to_be_bytes() } else { port.to_le_bytes() };
            let found = (0..model.payload.len().saturating_sub(1)).find(|i| {
                group
                    .members
                    .iter()
                    .all(|d| joined(d).is_some_and(|p| d.payload.get(*i..*i + 2) == Some(&two(p)[..])))
            });
            if let Some(i) = found {
                let why = "the port that was joined, as two bytes".to_owned();
                self.port =
                    Some(Found { toml: format!("{{ at = {i}, u16 = \"{form}\" }}"), why, sure: true });
                self.content.push(i..i + 2);
                return;
            }
        }
        let Some(join) = joins.iter().find(|j| j.server == model.from.ip() && !j.backwards) else { return };
        let sure = join.port < EPHEMERAL;
        let why = if sure {
            "where it was joined; the packet does not say"
        } else {
            "where it was joined this time; the packet does not seem to say, so look for it"
        };
        self.port = Some(Found { toml: join.port.to_string(), why: why.to_owned(), sure });
    }

    /// A text that ends right in front of the port's may be a host name, which means nothing on another computer.
    fn host_in_front(&mut self, model: &Datagram, port: &Candidate, all: &[Candidate]) {
        let text = |c: &Candidate| model.payload.get(c.range.clone()).map(<[u8]>::to_vec).unwrap_or_default();
        let name_like = |t: &[u8]| {
            t.len() >= 2
                && t.iter().any(u8::is_ascii_alphabetic)
                && t.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.'))
        };
        let front = all.iter().find(|c| {
            c.range.end + 1 == port.range.start
                && c.place.find == Find::Nul
                && port.place.find == Find::Nul
                && name_like(&text(c))
        });
        let Some(front) = front.filter(|_| self.rewrites.is_empty()) else { return };
        let toml = format!("{}\nas = \"host\"", written_below(&front.place));
        let why = "stands in front of the port and looks like a host's name".to_owned();
        self.rewrites.push(Found { toml, why, sure: false });
        self.content.push(front.range.clone());
    }

    /// What a key names plainly.
    fn by_name(&mut self, all: &[Candidate]) {
        for (key, labels) in NAMED {
            let named = all.iter().find(|c| labels.contains(&c.label.as_str()));
            if let Some(candidate) = named {
                let why = format!("the game calls it {}", candidate.label);
                self.more.push((
                    key,
                    Found { toml: format!("{{ {} }}", written(&candidate.place)), why, sure: true },
                ));
            }
        }
    }

    fn title(&mut self, group: &Group<'_>, model: &Datagram, all: &[Candidate], wanted: Option<&str>) {
        let mut best: Option<(i32, &Candidate)> = None;
        for candidate in all {
            let taken =
                self.content.iter().any(|r| r.start < candidate.range.end && candidate.range.start < r.end);
            let worth = if taken { None } else { worth(group, candidate, wanted) };
            if let Some(worth) = worth.filter(|w| *w >= WORTHY && best.is_none_or(|(have, _)| *w > have)) {
                best = Some((worth, candidate));
            }
        }
        let Some((worth, candidate)) = best else { return };
        let text = at(&candidate.place, model).map(String::from_utf8_lossy).unwrap_or_default();
        let mut toml = written(&candidate.place);
        let sure = worth >= CERTAIN;
        let colour = ['^', '§'].into_iter().find(|c| text.contains(*c));
        if let Some(colour) = colour {
            toml = format!("{toml}, colour = \"{colour}\"");
        }
        let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
        let why = match wanted {
            Some(_) if sure => format!("here it says \"{shown}\""),
            _ if sure => format!("differs between servers or is named so; here it says \"{shown}\""),
            _ => format!("the likeliest of {} texts; here it says \"{shown}\"", all.len()),
        };
        self.title = Some(Found { toml: format!("{{ {toml} }}"), why, sure });
        self.content.push(candidate.range.clone());
    }
}

/// How much a text looks like a title.
fn worth(group: &Group<'_>, candidate: &Candidate, wanted: Option<&str>) -> Option<i32> {
    let texts: Vec<(IpAddr, &str)> = group
        .members
        .iter()
        .map(|d| Some((d.from.ip(), at(&candidate.place, d).and_then(|t| std::str::from_utf8(t).ok())?)))
        .collect::<Option<_>>()?;
    let text = texts.first()?.1;
    if let Some(wanted) = wanted {
        return texts.iter().any(|(_, t)| *t == wanted).then_some(CERTAIN);
    }
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let label = candidate.label.as_str();
    let said_twice = |c: char| text.matches(c).count() >= 2;
    if letters < 2
        || text.len() > 80
        || text.contains('\\')
        || text.contains("[/")
        || said_twice(';')
        || said_twice('=')
    {
        return None;
    }
    let servers: BTreeSet<IpAddr> = texts.iter().map(|(ip, _)| *ip).collect();
    let different: BTreeSet<&str> = texts.iter().map(|(_, t)| *t).collect();
    let mut points = 2 + i32::from(text.len() >= 3);
    points += match label {
        "hostname" | "sv_hostname" | "servername" | "server_name" | "motd" | "title" => CERTAIN,
        "name" | "session" | "world" | "game" | "host" | "server" => 4,
        "map" | "mapname" | "gametype" | "gamename" | "protocol" | "mod" | "version" | "modname"
        | "game_version" => -8,
        "" => 0,
        _ => -2,
    };
    if servers.len() > 1 {
        points += if different.len() == servers.len() { 6 } else { -2 };
    }
    let versions = text
        .as_bytes()
        .windows(3)
        .any(|w| matches!(w, [a, b'.', c] if a.is_ascii_digit() && c.is_ascii_digit()));
    points -= 5 * i32::from(versions)
        + 2 * i32::from(text.contains('_'))
        + 3 * i32::from(matches!(candidate.place.find, Find::Field(0, _)));
    points -= 3 * i32::from(matches!(candidate.place.find, Find::Field(_, b' ' | b',')));
    points -= 6 * i32::from(STATES.contains(&text.to_ascii_lowercase().as_str()));
    Some(points)
}

/// The transport by which a server was joined first.
pub(super) fn joined_by(joins: &[Join]) -> Option<Transport> {
    joins.iter().filter(|j| !j.backwards).min_by_key(|j| j.at).map(|j| j.transport)
}

/// Keys of a profile and what games call the same.
const NAMED: &[(&str, &[&str])] = &[
    ("map", &["mapname", "map"]),
    ("players", &["clients", "numplayers", "players"]),
    ("max_players", &["sv_maxclients", "maxplayers", "maxclients"]),
];
/// What servers say of themselves that is no title.
const STATES: &[&str] = &[
    "pregame",
    "running",
    "game over",
    "waiting",
    "lobby",
    "open",
    "closed",
    "playing",
    "started",
    "idle",
    "loading",
    "public",
    "private",
    "survival",
    "creative",
    "true",
    "false",
    "yes",
    "no",
    "none",
];
/// Points from which a text is offered as title.
const WORTHY: i32 = 2;
/// Points from which there is no doubt.
const CERTAIN: i32 = 8;
/// Rewrites of one rule in a profile.
const MOST_REWRITES: usize = 8;
/// From here on systems draw ports for programs that ask for none.
pub(super) const EPHEMERAL: u16 = 32_768;
