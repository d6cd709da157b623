//! Writes the profile: every line that is not obvious has its reason above it, and says whether it was seen or guessed.

use super::place::quoted;
use super::roles::{Group, Join, Roles};
use super::sense::{EPHEMERAL, Found, Sense, joined_by, sense};
use super::shape::{Mark, Piece, Shape, echoes, is_text};
use super::traffic::{Datagram, Traffic};
use super::{Wish, ports_toml};
use crate::rules::ports::LOWEST;
use crate::rules::ruleset::{RuleKind, Transport};
use crate::wire::frame::Class;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

/// The profile's text and what is known about it.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) profile: String,
    pub(super) sure: Vec<String>,
    pub(super) guesses: Vec<String>,
}

/// A rule before it is written.
struct Plan<'r, 't> {
    group: &'r Group<'t>,
    shape: Shape<'t>,
    sense: Sense,
    ports: BTreeSet<u16>,
    from_ports: BTreeSet<u16>,
    /// Servers may answer from anywhere.
    from_any: bool,
    marks: Vec<Mark>,
    lists: bool,
}

/// Writes it.
pub(super) fn write(traffic: &Traffic, roles: &Roles<'_>, wish: &Wish) -> Written {
    let mut it = Written::default();
    let has_v4 = roles.groups.iter().any(|g| g.members.iter().any(|d| d.from.is_ipv4()));
    let spoken: Vec<&Group<'_>> =
        roles.groups.iter().filter(|g| !has_v4 || g.members.iter().any(|d| d.from.is_ipv4())).collect();
    let plans = plan(&spoken, roles, wish);
    let discovery: usize = roles.groups.iter().map(|g| g.members.len()).sum();
    let _ = write!(
        it.profile,
        "# Learned from {}: {discovery} of {} packets are discovery.\n\
         # `seen` is what the packets say; look at each `guess`, then try it (docs/learning.md).\n\
         id = {}\nname = {}\nevidence = \"captured\"\n\
         # tested_on = [\"the game's version\"]\n# processes = [\"names of its programs\"]\n\n",
        comment(&wish.file),
        traffic.frames,
        quoted(&wish.id),
        quoted(&wish.name),
    );
    it.play(&plans, &roles.joins);
    for plan in &plans {
        it.rule(plan, &roles.joins, has_v4);
    }
    if has_v4 && roles.groups.iter().any(|g| g.members.iter().any(|d| d.from.is_ipv6())) {
        it.sure.push(
            "the game searches over IPv6 too; that is left out, so that one server is one entry".to_owned(),
        );
    }
    let servers: BTreeSet<IpAddr> = plans
        .iter()
        .filter(|p| p.group.kind.tells_of_a_game())
        .flat_map(|p| v4_of(p.group, has_v4))
        .map(|d| d.from.ip())
        .collect();
    if servers.len() < 2 {
        let text = "only one server was heard: bytes that differ between servers look constant. A second capture with another server, name and map makes this surer";
        it.guesses.push(text.to_owned());
    }
    if roles.joins.is_empty() {
        let text =
            "nobody joined in the capture: the ports to play on are guessed. Join the game while recording";
        it.guesses.push(text.to_owned());
    }
    it
}

fn v4_of<'r, 't>(group: &'r Group<'t>, only_v4: bool) -> impl Iterator<Item = &'t Datagram> + use<'r, 't> {
    group.members.iter().copied().filter(move |d| !only_v4 || d.from.is_ipv4())
}

fn plan<'r, 't>(groups: &[&'r Group<'t>], roles: &Roles<'t>, wish: &Wish) -> Vec<Plan<'r, 't>> {
    let asked: BTreeSet<u16> = groups
        .iter()
        .filter(|g| g.kind == RuleKind::Query)
        .flat_map(|g| g.members.iter().map(|d| d.to.port()))
        .collect();
    let mut plans: Vec<Plan<'r, 't>> = Vec::new();
    for group in groups {
        let to_many = group.members.iter().any(|d| d.class != Class::Unicast);
        let from: BTreeSet<u16> = group.members.iter().map(|d| d.from.port()).collect();
        let from_any = !to_many && from.iter().any(|p| *p >= EPHEMERAL && !asked.contains(p));
        let from_ports = if to_many || from_any {
            BTreeSet::new()
        } else if from.is_subset(&asked) {
            asked.clone()
        } else {
            from
        };
        let ports =
            if to_many { group.members.iter().map(|d| d.to.port()).collect() } else { BTreeSet::new() };
        let sense = sense(group, &roles.joins, wish.title.as_deref());
        let shape = Shape::new(&group.members);
        let others = others(group, groups, &roles.play, &from_ports, &ports);
        let marks = shape.marks(&sense.content, &drawn(group, groups), partner(group, groups), &others);
        plans.push(Plan {
            group,
            shape,
            sense,
            ports,
            from_ports,
            from_any,
            marks,
            lists: group.kind.tells_of_a_game(),
        });
    }
    choose_listing(&mut plans);
    // The first rule that fits wins: the stricter first.
    plans.sort_by_key(|p| {
        (
            order(p.group.kind),
            std::cmp::Reverse(p.marks.iter().map(|m| m.bytes.iter().flatten().count()).sum::<usize>()),
        )
    });
    plans.truncate(MOST_RULES);
    plans
}

const fn order(kind: RuleKind) -> u8 {
    match kind {
        RuleKind::Announcement => 0,
        RuleKind::Query => 1,
        RuleKind::Answer => 2,
        RuleKind::Closing => 3,
    }
}

/// Of several kinds of answer (a challenge and what follows) only the one that says something stands for a game.
fn choose_listing(plans: &mut [Plan<'_, '_>]) {
    let answers = || (0..).zip(plans.iter()).filter(|(_, p)| p.group.kind == RuleKind::Answer);
    let says = |p: &Plan<'_, '_>| (p.sense.title.is_some(), p.sense.port.is_some(), p.shape.longest);
    if answers().count() < 2 {
        return;
    }
    let Some((best, saying)) =
        answers().max_by_key(|(_, p)| says(p)).map(|(i, p): (usize, _)| (i, p.sense.title.is_some()))
    else {
        return;
    };
    for (i, plan) in plans.iter_mut().enumerate().filter(|(_, p)| p.group.kind == RuleKind::Answer) {
        plan.lists = i == best || saying && plan.sense.title.is_some();
    }
}

/// What a server drew in an earlier answer and this kind only repeats.
fn drawn(group: &Group<'_>, groups: &[&Group<'_>]) -> Vec<std::ops::Range<usize>> {
    let begins = |g: &Group<'_>| g.members.first().map(|d| d.at);
    let first = groups.iter().filter(|g| g.kind == RuleKind::Query).min_by_key(|g| begins(g));
    let (Some(model), Some(first)) = (group.members.first(), first.and_then(|g| g.members.first())) else {
        return Vec::new();
    };
    let earlier = groups.iter().filter(|g| g.kind == RuleKind::Answer && !std::ptr::eq(**g, group));
    let earlier = earlier.filter_map(|g| g.members.first()).filter(|d| d.at <= model.at);
    earlier.flat_map(|d| echoes(&model.payload, &d.payload, &first.payload)).collect()
}

/// The nearest packet of the other side.
fn partner<'t>(group: &Group<'t>, groups: &[&Group<'t>]) -> Option<&'t [u8]> {
    let first = group.members.first()?;
    let (wanted, before) = match group.kind {
        RuleKind::Query => (RuleKind::Answer, false),
        RuleKind::Answer => (RuleKind::Query, true),
        RuleKind::Announcement | RuleKind::Closing => return None,
    };
    let all = groups.iter().filter(|g| g.kind == wanted).flat_map(|g| g.members.iter().copied());
    let near = all.filter(|d| if before { d.at <= first.at } else { d.at >= first.at });
    near.min_by_key(|d| d.at.abs_diff(first.at)).map(|d| d.payload.as_slice())
}

/// Packets on the same way that are something else.
fn others<'t>(
    group: &Group<'t>,
    groups: &[&Group<'t>],
    play: &[&'t Datagram],
    from_ports: &BTreeSet<u16>,
    ports: &BTreeSet<u16>,
) -> Vec<&'t [u8]> {
    let to_many = !ports.is_empty();
    let rest = groups.iter().filter(|g| g.kind != RuleKind::Query || g.kind != group.kind);
    let rest = rest.filter(|g| !std::ptr::eq(**g, group)).flat_map(|g| g.members.iter().copied());
    let same_way = |d: &&Datagram| {
        if to_many {
            d.class != Class::Unicast && ports.contains(&d.to.port())
        } else {
            d.class == Class::Unicast && (from_ports.is_empty() || from_ports.contains(&d.from.port()))
        }
    };
    rest.chain(play.iter().copied())
        .filter(same_way)
        .take(MOST_OTHERS)
        .map(|d| d.payload.as_slice())
        .collect()
}

impl Written {
    fn reason(&mut self, sure: bool, what: &str, why: &str) {
        let word = if sure { "seen" } else { "guess" };
        let _ = writeln!(self.profile, "# {word}: {}", comment(why));
        let list = if sure { &mut self.sure } else { &mut self.guesses };
        list.push(if what.is_empty() { why.to_owned() } else { format!("{what}: {why}") });
    }

    fn play(&mut self, plans: &[Plan<'_, '_>], joins: &[Join]) {
        let said: bool = plans
            .iter()
            .any(|p| p.lists && p.sense.port.as_ref().is_some_and(|f| f.toml.starts_with('{') && f.sure));
        let asked: BTreeSet<u16> = plans
            .iter()
            .filter(|p| p.group.kind == RuleKind::Query)
            .flat_map(|p| p.ports.iter().copied())
            .collect();
        let mut ports: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
        for join in
            joins.iter().filter(|j| !j.backwards && j.port >= LOWEST && !(said && j.port >= EPHEMERAL))
        {
            let set = ports.entry(if join.transport == Transport::Tcp { "tcp" } else { "udp" }).or_default();
            set.insert(join.port);
            if join.transport == Transport::Udp && asked.contains(&join.port) {
                set.extend(asked.iter().copied().filter(|p| *p >= LOWEST).take(MOST_PORTS));
            }
        }
        let _ = writeln!(self.profile, "[play]");
        for (key, set) in &ports {
            let one = |j: &&Join| (if j.transport == Transport::Tcp { "tcp" } else { "udp" }) == *key;
            let seen: Vec<String> = joins
                .iter()
                .filter(one)
                .filter(|j| !j.backwards)
                .map(|j| j.port.to_string())
                .take(8)
                .collect();
            let high = set.iter().any(|p| *p >= EPHEMERAL);
            let doubt = if high {
                "; a port this high was drawn by the system and will be another one next time"
            } else if said && set.is_disjoint(&asked) {
                "; the packets name it, so it may be another one next time"
            } else {
                ""
            };
            let why = format!("used after the search: {}{doubt}", seen.join(", "));
            self.reason(doubt.is_empty(), &format!("{key} ports {}", ports_toml(set)), &why);
            let _ = writeln!(self.profile, "{key} = {}", ports_toml(set));
        }
        let by = joined_by(joins);
        if let (None, true) = (by, ports.is_empty()) {
            let answering: BTreeSet<u16> = plans
                .iter()
                .flat_map(|p| p.from_ports.iter().copied())
                .filter(|p| *p >= LOWEST)
                .take(MOST_PORTS)
                .collect();
            if !answering.is_empty() {
                self.reason(
                    false,
                    &format!("udp ports {}", ports_toml(&answering)),
                    "servers answer from there; whether the game is played there was not seen",
                );
                let _ = writeln!(self.profile, "udp = {}", ports_toml(&answering));
                let _ = writeln!(self.profile);
                return;
            }
        }
        if ports.len() != 1 {
            let word = if by == Some(Transport::Udp) { "udp" } else { "tcp" };
            let why = if by.is_some() {
                "what was opened first after the search"
            } else {
                "most games that announce a port are joined by TCP"
            };
            self.reason(by.is_some(), &format!("joined by {word}"), why);
            let _ = writeln!(self.profile, "join = \"{word}\"");
        }
        let _ = writeln!(self.profile);
    }

    fn rule(&mut self, plan: &Plan<'_, '_>, joins: &[Join], has_v4: bool) {
        let group = plan.group;
        let kind = group.kind.as_str();
        let _ = writeln!(self.profile, "[[rule]]");
        let name = format!("{kind} \"{}\"", preview(plan.shape.model()));
        self.reason(group.sure, &name, &group.why);
        let _ = writeln!(self.profile, "kind = \"{kind}\"");
        self.addressed(plan, &name, has_v4);
        let needs = self.length(plan, &name);
        self.marks(plan, &name, needs);
        self.rhythm(plan, &name, has_v4);
        if let Some(slowest) = group.slowest.filter(|s| *s * 4 > ANSWERS_WITHIN) {
            self.reason(true, &name, &format!("the slowest answer took {:.1} s", slowest.as_secs_f64()));
            let _ = writeln!(self.profile, "answers_within = {}", (slowest * 4).as_secs().clamp(1, 60));
        }
        if plan.lists {
            self.listing(plan, &name);
        } else if group.kind.tells_of_a_game() {
            self.reason(false, &name, "another answer says more");
            let _ = writeln!(self.profile, "lists = false");
        }
        self.called_back(plan, joins, &name);
        for rewrite in &plan.sense.rewrites {
            let _ = writeln!(self.profile);
            let _ = writeln!(self.profile, "[[rule.rewrite]]");
            self.reason(rewrite.sure, &format!("{name} holds an address"), &rewrite.why);
            let _ = writeln!(self.profile, "{}", rewrite.toml);
        }
        if plan.sense.holds_receiver {
            let why = "the packet also holds the receiver's own address, and a profile cannot put the right one there; a plugin can";
            self.reason(false, &name, why);
        }
        let _ = writeln!(self.profile);
    }

    fn addressed(&mut self, plan: &Plan<'_, '_>, name: &str, has_v4: bool) {
        if !plan.ports.is_empty() {
            let _ = writeln!(self.profile, "port = {}", ports_toml(&plan.ports));
        }
        if plan.from_any {
            self.reason(false, name, "servers answer from a port that the system drew");
            let _ = writeln!(self.profile, "from_port = \"1024-65535\"");
        } else if !plan.from_ports.is_empty() {
            let seen: BTreeSet<u16> = plan.group.members.iter().map(|d| d.from.port()).collect();
            if seen != plan.from_ports {
                self.reason(
                    false,
                    name,
                    &format!(
                        "answered from {}; the other asked ports are taken to be servers' ports too",
                        ports_toml(&seen)
                    ),
                );
            }
            let _ = writeln!(self.profile, "from_port = {}", ports_toml(&plan.from_ports));
        }
        let mut to: BTreeSet<String> = BTreeSet::new();
        for packet in v4_of(plan.group, has_v4) {
            match packet.class {
                Class::Multicast => to.insert(format!("group:{}", packet.to.ip())),
                Class::Limited | Class::Directed => to.insert("broadcast".to_owned()),
                Class::Unicast => to.insert("unicast".to_owned()),
            };
        }
        let usual = if plan.group.kind == RuleKind::Answer { "unicast" } else { "broadcast" };
        if to.len() == 1 && to.contains(usual) {
            return;
        }
        let all: Vec<String> = to.iter().take(16).map(|t| quoted(t)).collect();
        let _ = match &all[..] {
            [one] => writeln!(self.profile, "to = {one}"),
            _ => writeln!(self.profile, "to = [{}]", all.join(", ")),
        };
    }

    /// Writes the length; the bytes that are needed at least.
    fn length(&mut self, plan: &Plan<'_, '_>, name: &str) -> usize {
        let shape = &plan.shape;
        let needs = plan.marks.iter().map(Mark::end).max().unwrap_or(0).max(1);
        let texts = plan.sense.content.iter().any(|r| r.len() > 1);
        let fixed = shape.shortest == shape.longest;
        let same = shape.payloads.len() == 1;
        let rest = shape.model().get(needs..).unwrap_or(&[]);
        let words = texts || rest.windows(3).any(|w| w.iter().all(|c| is_text(*c)));
        if fixed && plan.group.kind == RuleKind::Query && !words {
            let all = plan.group.members.len();
            self.reason(all > 1, name, &format!("length {} in all {all}", shape.longest));
            let _ = writeln!(self.profile, "length = {}", shape.longest);
        } else if fixed && same && shape.longest <= 4 {
            self.reason(false, name, &format!("always {} bytes", shape.longest));
            let _ = writeln!(self.profile, "length = {}", shape.longest);
        } else {
            let most = (shape.longest * 2).clamp(64, 1400).max(shape.longest);
            let least = needs.min(shape.shortest);
            let seen = if fixed { String::new() } else { format!("{} to ", shape.shortest) };
            let why = format!("{seen}{} bytes were seen; names and lists make it longer", shape.longest);
            self.reason(false, name, &why);
            let _ = writeln!(self.profile, "length = \"{least}-{most}\"");
        }
        needs
    }

    fn marks(&mut self, plan: &Plan<'_, '_>, name: &str, needs: usize) {
        if plan.marks.is_empty() {
            self.reason(false, name, "no byte is the same in all: any packet on this port counts");
            return;
        }
        let different = plan.shape.payloads.len();
        let (times, longest) = (plan.group.members.len(), plan.shape.longest);
        let (sure, why) = if different > 1 {
            let why = format!(
                "the same in {different} different packets; of {needs} bytes those that tell it from the others"
            );
            (true, why)
        } else if longest <= 16 {
            (times > 1, format!("{times} packets, all equal"))
        } else {
            (false, format!("the first of {longest} bytes; nothing differed, so this may be too much"))
        };
        self.reason(sure, &format!("{name} match"), &why);
        let each: Vec<String> = plan
            .marks
            .iter()
            .flat_map(Mark::pieces)
            .map(|(at, piece)| {
                let at = if at > 0 { format!("at = {at}, ") } else { String::new() };
                match piece {
                    Piece::Text(text) => format!("{{ {at}text = {} }}", quoted(&text)),
                    Piece::Hex(bytes) => {
                        let hex =
                            bytes.iter().map(|b| b.map_or_else(|| "??".to_owned(), |b| format!("{b:02x}")));
                        format!("{{ {at}hex = \"{}\" }}", hex.collect::<Vec<_>>().join(" "))
                    }
                }
            })
            .collect();
        let _ = match &each[..] {
            [one] => writeln!(self.profile, "match = {one}"),
            _ => writeln!(self.profile, "match = [\n  {},\n]", each.join(",\n  ")),
        };
    }

    /// Pace and life, where the defaults would not do.
    fn rhythm(&mut self, plan: &Plan<'_, '_>, name: &str, has_v4: bool) {
        let (usual, usual_burst) = match plan.group.kind {
            RuleKind::Announcement | RuleKind::Closing => (5, 10),
            RuleKind::Query => (20, 40),
            RuleKind::Answer => (50, 100),
        };
        let mut times: BTreeMap<IpAddr, Vec<Duration>> = BTreeMap::new();
        v4_of(plan.group, has_v4).for_each(|d| times.entry(d.from.ip()).or_default().push(d.at));
        let burst = times.values().map(|all| busiest_second(all)).max().unwrap_or(0);
        if burst * 2 > usual_burst {
            let (per_second, burst_wanted) = (burst.clamp(usual, 1000), (burst * 2).clamp(1, 1000));
            self.reason(true, name, &format!("up to {burst} in one second"));
            let _ = writeln!(self.profile, "pace = {{ per_second = {per_second}, burst = {burst_wanted} }}");
        }
        let gap = times.values().filter_map(|all| usual_gap(all)).max();
        if let Some(every) = gap.filter(|_| plan.group.kind == RuleKind::Announcement) {
            // Five lost in a row mean that the game is gone.
            let life = (every * 5 + Duration::from_millis(500)).as_secs().clamp(5, 120);
            self.reason(true, name, &format!("said every {:.1} s", every.as_secs_f64()));
            let rhythm = every.as_secs_f64().clamp(0.1, 60.0);
            let _ = writeln!(self.profile, "rhythm = {rhythm:.1}\nlife = {life}");
        }
    }

    /// A server that opens a connection to whoever asked.
    fn called_back(&mut self, plan: &Plan<'_, '_>, joins: &[Join], name: &str) {
        let back: BTreeSet<u16> =
            joins.iter().filter(|j| j.backwards && j.port >= LOWEST).map(|j| j.port).collect();
        if plan.group.kind == RuleKind::Query && !back.is_empty() {
            self.reason(true, name, "the server then opened a TCP connection to the one who asked");
            let _ = writeln!(self.profile, "answers_tcp = {}", ports_toml(&back));
        }
    }

    fn listing(&mut self, plan: &Plan<'_, '_>, name: &str) {
        match &plan.sense.title {
            Some(Found { toml, why, sure }) => {
                self.reason(*sure, &format!("{name} title"), why);
                let _ = writeln!(self.profile, "title = {toml}");
            }
            None => {
                self.reason(false, name, "no text looks like a title; name one with `--title` if there is")
            }
        }
        for (key, found) in &plan.sense.more {
            self.reason(found.sure, &format!("{name} {key}"), &found.why);
            let _ = writeln!(self.profile, "{key} = {}", found.toml);
        }
        match &plan.sense.port {
            Some(Found { toml, why, sure }) => {
                self.reason(*sure, &format!("{name} port"), why);
                let _ = writeln!(self.profile, "game_port = {toml}");
            }
            // Answers from a known port are joined there; that is the default.
            None if plan.group.kind == RuleKind::Answer && (plan.from_any || !plan.from_ports.is_empty()) => {
            }
            None => {
                self.reason(
                    false,
                    &format!("{name} port"),
                    "nothing names a port; perhaps the one it is sent from",
                );
                let _ = writeln!(self.profile, "game_port = \"source\"");
            }
        }
    }
}

/// The most packets within a second.
fn busiest_second(times: &[Duration]) -> u32 {
    let most = times.iter().enumerate().map(|(i, from)| {
        times
            .iter()
            .skip(i)
            .take_while(|at| at.saturating_sub(*from) < Duration::from_secs(1))
            .take(1000)
            .count()
    });
    u32::try_from(most.max().unwrap_or(0)).unwrap_or(u32::MAX)
}

/// The middle of the gaps.
fn usual_gap(times: &[Duration]) -> Option<Duration> {
    let mut gaps: Vec<Duration> =
        times.windows(2).filter_map(|w| Some(w.last()?.saturating_sub(*w.first()?))).collect();
    gaps.sort_unstable();
    gaps.get(gaps.len() / 2).copied().filter(|_| gaps.len() >= 2)
}

/// The first bytes for people.
pub(super) fn preview(payload: &[u8]) -> String {
    let text: String = payload
        .iter()
        .take(16)
        .map(|c| if (0x20..0x7f).contains(c) { char::from(*c) } else { '.' })
        .collect();
    text.replace(['"', '\\', '[', ']', '#'], "'")
}

/// Text that stays within its comment.
fn comment(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

/// What a profile without `answers_within` has.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Rules of a profile.
const MOST_RULES: usize = 32;
/// Ports that are opened because servers are asked there.
const MOST_PORTS: usize = 32;
/// Packets that marks are held against.
const MOST_OTHERS: usize = 512;
