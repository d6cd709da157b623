//! Checks `[[rule]]`: what a discovery packet looks like and what is to be done with it.

use super::listing::Told;
use super::place;
use super::{note, play_ports, ports, span_of_numbers};
use crate::rules::file::{Findings, Item, Section, shown};
use crate::rules::pattern::{Clause, Pattern};
use crate::rules::ports::PortRange;
use crate::rules::profile::{Ask, Play, Rule, To};
use crate::rules::ruleset::{Pace, RuleKind, Side};
use crate::wire::frame::Class;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

/// What the rules need to know of their profile.
pub(super) struct Around<'p> {
    pub(super) play: &'p Play,
    /// It names a plugin, which can tell what a packet says.
    pub(super) plugin: bool,
}

pub(super) fn read_rules(item: &Item<'_>, around: &Around<'_>, findings: &mut Findings) -> Vec<Rule> {
    let items = item.each();
    if items.len() > RULES {
        findings.add(&item.span, format!("{} rules; a profile has at most {RULES}", items.len()));
        return Vec::new();
    }
    items.iter().filter_map(|item| read_rule(item.section("[[rule]]", findings)?, around, findings)).collect()
}

fn read_rule(mut section: Section<'_>, around: &Around<'_>, findings: &mut Findings) -> Option<Rule> {
    let span = section.span.clone();
    let kind = section.need("kind", findings).and_then(|item| item.choice(&KINDS, findings));
    let packets = read_packets(&mut section, kind, findings);
    let pace = section.take("pace").and_then(|item| read_pace(&item, kind?, findings));
    let life = seconds(section.take("life"), LIFE, kind, findings);
    let rhythm = section.take("rhythm").and_then(|item| read_rhythm(&item, kind?, findings));
    let answers_within = seconds(section.take("answers_within"), ANSWERS, kind, findings);
    let answers_tcp = section.take("answers_tcp").map(|item| read_answers_tcp(&item, kind?, findings));
    let keep = section.take("keep_source_port").and_then(|item| item.truth(findings));
    let opens = section.take("opens").and_then(|item| place::read_opens(&item, findings));
    let deliver = section.take("deliver").and_then(|item| read_deliver(&item, &packets.to, findings));
    let told = Told::take(&mut section);
    let rewrites =
        section.take("rewrite").map_or_else(Vec::new, |item| place::read_rewrites(&item, findings));
    let ask = section.take("ask").and_then(|item| read_ask(&item, around.plugin, findings));
    let note = section.take("note").and_then(|item| note(&item, findings));
    section.finish(findings);

    let kind = kind?;
    let lists = told.read(kind, !packets.from.is_empty(), around, findings);
    if opens.is_some() && kind != RuleKind::Answer {
        findings.add(&span, "`opens` belongs to answers; an announcement has `game_port`");
    }
    Some(Rule {
        kind,
        side: packets.side,
        ports: packets.dest,
        from_ports: packets.from,
        to: packets.to,
        length: packets.length,
        clauses: packets.clauses,
        pace: pace.unwrap_or_else(|| default_pace(kind)),
        life: life.unwrap_or(if kind == RuleKind::Announcement { LIFE_ANNOUNCED } else { LIFE_ANSWERED }),
        rhythm,
        answers_within: answers_within.unwrap_or(ANSWERS_WITHIN),
        answers_tcp: answers_tcp.flatten().unwrap_or_default(),
        keep_source_port: keep.unwrap_or(false),
        opens,
        deliver,
        lists,
        rewrites,
        ask,
        note,
        place: findings.place(&span),
    })
}

/// `ask = "forward"`, `ask = "drop"` or a table with `else`, `side` and `within_ms`.
fn read_ask(item: &Item<'_>, has_plugin: bool, findings: &mut Findings) -> Option<Ask> {
    const ELSE: [(&str, bool); 2] = [("forward", false), ("drop", true)];
    if !has_plugin {
        findings.add_with_help(
            &item.span,
            "`ask` needs a plugin to ask",
            "name it with `plugin = \"…\"` at the top of the profile",
        );
    }
    let plain = Ask { else_drop: false, side: Some(Side::FromPeer), within: ASK_WITHIN };
    if item.as_text().is_some() {
        return Some(Ask { else_drop: item.choice(&ELSE, findings)?, ..plain });
    }
    let mut section = item.section("ask", findings)?;
    let without = section.need("else", findings).and_then(|item| item.choice(&ELSE, findings));
    let side = section.take("side").and_then(|item| item.choice(&SIDES, findings));
    let within = section.take("within_ms").and_then(|item| item.whole(1..=50, findings));
    section.finish(findings);
    Some(Ask {
        else_drop: without?,
        side: side.unwrap_or(plain.side),
        within: within.map_or(ASK_WITHIN, |ms| Duration::from_millis(ms.into())),
    })
}

/// How long a plugin's answer is waited for.
const ASK_WITHIN: Duration = Duration::from_millis(5);

/// Which packets a rule is for.
struct Packets {
    side: Option<Side>,
    dest: Vec<PortRange>,
    from: Vec<PortRange>,
    to: Vec<To>,
    length: RangeInclusive<u16>,
    clauses: Vec<Clause>,
}

fn read_packets(section: &mut Section<'_>, kind: Option<RuleKind>, findings: &mut Findings) -> Packets {
    const LENGTHS: &str = "a number of bytes such as 33 or a range such as \"12-600\"";
    let span = section.span.clone();
    let side = section.take("side").and_then(|item| item.choice(&SIDES, findings)).flatten();
    let (dest, from) = (section.take("port"), section.take("from_port"));
    let to = section.take("to").map(|item| read_to(&item, findings));
    let to = to.or_else(|| kind.map(default_to)).unwrap_or_default();
    if kind.is_some() {
        check_ports(&span, &to, dest.is_some(), from.is_some(), findings);
    }
    let length = section.take("length").and_then(|item| span_of_numbers(&item, 0, LENGTHS, findings));
    let length = length.unwrap_or(1..=LONGEST);
    let clauses = section.take("match").map_or_else(Vec::new, |item| read_match(&item, &length, findings));
    let dest = dest.map_or_else(Vec::new, |item| ports(&item, findings));
    let any = from.as_ref().filter(|item| item.as_text() == Some("any")).map(|item| item.span.clone());
    let from = match (&any, from) {
        (Some(span), _) => {
            check_any(span, !dest.is_empty(), &clauses, findings);
            vec![1..=u16::MAX]
        }
        (None, from) => from.map_or_else(Vec::new, |item| ports(&item, findings)),
    };
    Packets { side, dest, from, to, length, clauses }
}

/// A rule for packets from any port is asked about everything that peers send, so its bytes must be enough to go by.
fn check_any(span: &Range<usize>, has_port: bool, clauses: &[Clause], findings: &mut Findings) {
    let known = |clause: &Clause| clause.any.iter().map(Pattern::known).min().unwrap_or(0);
    if !has_port && clauses.iter().map(known).sum::<usize>() < KNOWN_BYTES {
        findings.add_with_help(
            span,
            format!("`from_port = \"any\"` needs a `match` of at least {KNOWN_BYTES} bytes"),
            "without a port only its bytes tell such a packet from the game's own traffic",
        );
    }
}

fn default_to(kind: RuleKind) -> Vec<To> {
    match kind {
        RuleKind::Announcement | RuleKind::Query | RuleKind::Closing => vec![To::Limited, To::Directed],
        RuleKind::Answer => vec![To::Unicast],
    }
}

const fn default_pace(kind: RuleKind) -> Pace {
    match kind {
        RuleKind::Announcement | RuleKind::Closing => Pace { per_second: 5, burst: 10 },
        RuleKind::Query => Pace { per_second: 20, burst: 40 },
        RuleKind::Answer => Pace { per_second: 50, burst: 100 },
    }
}

fn check_ports(span: &Range<usize>, to: &[To], dest: bool, from: bool, findings: &mut Findings) {
    let heard = to.iter().any(|to| *to != To::Unicast);
    if !dest && (heard || !from) {
        let help = if heard {
            "`port` is the destination port; lanrage listens on the cards for exactly these ports"
        } else {
            "`from_port` is the port that the server answers from"
        };
        let key = if heard { "port" } else { "from_port" };
        findings.add_with_help(span, format!("missing key `{key}` in [[rule]]"), help);
    }
}

fn read_to(item: &Item<'_>, findings: &mut Findings) -> Vec<To> {
    const WORDS: [(&str, &[To]); 4] = [
        ("broadcast", &[To::Limited, To::Directed]),
        ("limited", &[To::Limited]),
        ("directed", &[To::Directed]),
        ("unicast", &[To::Unicast]),
    ];
    let items = item.each();
    if items.is_empty() || items.len() > TARGETS {
        findings.add(&item.span, format!("`to` needs 1 to {TARGETS} entries"));
    }
    let mut out = Vec::new();
    for item in items.iter().take(TARGETS) {
        if let Some(group) = item.as_text().and_then(|text| text.strip_prefix("group:")) {
            match group.parse::<IpAddr>() {
                Ok(group) if group.is_multicast() => out.push(To::Group(group)),
                Ok(_) | Err(_) => findings.add_with_help(
                    &item.span,
                    format!("`{}` is no multicast group", shown(group)),
                    "groups are 224.0.0.0 to 239.255.255.255 and ff00::/8, such as `group:224.0.2.60`",
                ),
            }
        } else if let Some(words) = item.choice(&WORDS, findings) {
            out.extend_from_slice(words);
        }
    }
    out
}

fn read_match(item: &Item<'_>, length: &RangeInclusive<u16>, findings: &mut Findings) -> Vec<Clause> {
    let items = item.each();
    if items.is_empty() || items.len() > CLAUSES {
        findings.add(&item.span, format!("`match` needs 1 to {CLAUSES} tables"));
        return Vec::new();
    }
    items
        .iter()
        .filter_map(|item| {
            let clause = read_clause(item.section("match", findings)?, findings)?;
            let needs = clause.any.iter().map(|p| usize::from(clause.at) + p.len()).min().unwrap_or(0);
            if needs > usize::from(*length.end()) {
                findings.add(
                    &item.span,
                    format!("can never match: it needs {needs} bytes, and `length` allows {}", length.end()),
                );
            }
            Some(clause)
        })
        .collect()
}

fn read_clause(mut section: Section<'_>, findings: &mut Findings) -> Option<Clause> {
    let span = section.span.clone();
    let at = section.take("at").map_or(Some(0), |item| item.whole(0..=LONGEST, findings));
    let text = section.take("text");
    let hex = section.take("hex");
    let mask = section.take("mask");
    section.finish(findings);
    let (item, is_text) = match (&text, &hex) {
        (Some(item), None) => (item, true),
        (None, Some(item)) => (item, false),
        (Some(_), Some(_)) | (None, None) => {
            findings.add_with_help(
                &span,
                "`match` needs either `text` or `hex`",
                "for example { hex = \"ff ff\" }",
            );
            return None;
        }
    };
    let items = item.each();
    if items.is_empty() || items.len() > PATTERNS {
        findings.add(&item.span, format!("`{}` needs 1 to {PATTERNS} patterns", item.key));
        return None;
    }
    let mut any = Vec::new();
    for item in &items {
        any.push(read_pattern(item, is_text, findings)?);
    }
    if let Some(item) = mask {
        let mask = read_pattern(&item, false, findings)?;
        let bits = mask.as_exact().filter(|bits| any.iter().all(|p| p.len() == bits.len()));
        let Some(bits) = bits else {
            findings.add(&item.span, "`mask` must have as many bytes as what it masks, without `??`");
            return None;
        };
        any = any.into_iter().map(|p| p.masked(bits)).collect();
    }
    Some(Clause { at: at?, any: any.into() })
}

fn read_pattern(item: &Item<'_>, is_text: bool, findings: &mut Findings) -> Option<Pattern> {
    let text = item.text(findings)?;
    let pattern = if is_text { Ok(Pattern::exact(text.as_bytes())) } else { Pattern::hex(text) };
    match pattern {
        Ok(pattern) if (1..=PATTERN_BYTES).contains(&pattern.len()) => Some(pattern),
        Ok(_) => {
            findings.add(&item.span, format!("`{}` must have 1 to {PATTERN_BYTES} bytes", item.key));
            None
        }
        Err(wrong) => {
            findings.add(&item.span, format!("`{}` is not hexadecimal: {wrong}", item.key));
            None
        }
    }
}

fn read_pace(item: &Item<'_>, kind: RuleKind, findings: &mut Findings) -> Option<Pace> {
    let mut section = item.section("pace", findings)?;
    let usual = default_pace(kind);
    let mut number = |key, usual| {
        section.take(key).map_or(Some(usual), |item| item.whole(1..=1000, findings).map(u32::from))
    };
    let pace = (number("per_second", usual.per_second), number("burst", usual.burst));
    section.finish(findings);
    Some(Pace { per_second: pace.0?, burst: pace.1? })
}

/// `answers_within` is for queries, `life` for what stands for a game.
fn seconds(
    item: Option<Item<'_>>,
    most: u16,
    kind: Option<RuleKind>,
    findings: &mut Findings,
) -> Option<Duration> {
    let item = item?;
    let for_queries = item.key == "answers_within";
    let right = |kind: RuleKind| if for_queries { kind == RuleKind::Query } else { kind.tells_of_a_game() };
    if kind.is_some_and(|kind| !right(kind)) {
        let whose = if for_queries { "queries" } else { "announcements and answers" };
        findings.add(&item.span, format!("`{}` belongs to {whose}", item.key));
    }
    item.whole(1..=most, findings).map(|s| Duration::from_secs(s.into()))
}

/// Seconds, possibly with a point: Minecraft speaks every 1.5.
fn read_rhythm(item: &Item<'_>, kind: RuleKind, findings: &mut Findings) -> Option<Duration> {
    if kind != RuleKind::Announcement {
        findings.add(&item.span, "`rhythm` belongs to announcements");
    }
    let seconds = item.or_wrong(item.as_number(), "a number of seconds", findings)?;
    if !RHYTHM.contains(&seconds) {
        let (low, high) = (RHYTHM.start(), RHYTHM.end());
        findings.add(&item.span, format!("`rhythm` must be {low} to {high} seconds, not {seconds}"));
        return None;
    }
    Some(Duration::from_secs_f64(seconds))
}

/// TCP ports of whoever asks, to which a server connects in order to answer.
fn read_answers_tcp(item: &Item<'_>, kind: RuleKind, findings: &mut Findings) -> Option<Vec<PortRange>> {
    if kind != RuleKind::Query {
        findings.add(&item.span, "`answers_tcp` belongs to queries");
        return None;
    }
    Some(play_ports(Some(item.clone()), findings))
}

fn read_deliver(item: &Item<'_>, to: &[To], findings: &mut Findings) -> Option<Class> {
    const WORDS: [(&str, Option<Class>); 4] = [
        ("same", None),
        ("limited", Some(Class::Limited)),
        ("directed", Some(Class::Directed)),
        ("multicast", Some(Class::Multicast)),
    ];
    let class = item.choice(&WORDS, findings).flatten();
    let groups = to.iter().filter(|to| matches!(to, To::Group(_))).count();
    if class == Some(Class::Multicast) && groups != 1 {
        findings.add_with_help(
            &item.span,
            "`deliver = \"multicast\"` needs exactly one group",
            "name it in `to`, such as `group:224.0.2.60`",
        );
    }
    class
}

const KINDS: [(&str, RuleKind); 4] = [
    ("announcement", RuleKind::Announcement),
    ("query", RuleKind::Query),
    ("answer", RuleKind::Answer),
    ("closing", RuleKind::Closing),
];
const SIDES: [(&str, Option<Side>); 3] =
    [("both", None), ("game", Some(Side::FromGame)), ("peer", Some(Side::FromPeer))];

/// The largest payload of UDP over IPv4.
pub(super) const LONGEST: u16 = 65_507;
/// Rules of one profile.
const RULES: usize = 64;
/// Entries of `to`.
const TARGETS: usize = 16;
/// Tables of `match`.
const CLAUSES: usize = 8;
/// Patterns of one table. Sets are compiled to a tree (`tree`), so that their number costs no time.
const PATTERNS: usize = 1024;
/// Bytes that a rule without any port must know.
const KNOWN_BYTES: usize = 4;
/// Seconds between announcements.
const RHYTHM: RangeInclusive<f64> = 0.1..=600.0;
/// Bytes of a pattern.
pub(super) const PATTERN_BYTES: usize = 256;
/// Seconds: an hour.
const LIFE: u16 = 3600;
/// Seconds: routers forget UDP flows after a minute or so.
const ANSWERS: u16 = 60;
/// Announcers speak every second or two; five lost in a row mean that the game is gone.
const LIFE_ANNOUNCED: Duration = Duration::from_secs(10);
/// Servers speak only when asked, and people look at a list for a while.
const LIFE_ANSWERED: Duration = Duration::from_secs(60);
/// Servers answer at once; slow links and loading games take a few seconds.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
