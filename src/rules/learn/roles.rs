//! Who says what to whom: announcements, questions, answers, and how a server is joined.
//!
//! * A packet to many that is answered (unicast, to the port it came from, soon) is a question. So is one that leaves from
//!   the same socket to the same port as an answered one, and one that is each time followed by a packet to many of another
//!   computer, which is its answer then.
//! * What servers (computers that answered or were joined) say to many without being asked is an announcement.
//! * What a server says to a client's socket after the client spoke to it alone is the game, not an answer, unless the
//!   client only asked again (same bytes as the question to all).

use super::shape::alike;
use super::traffic::{Datagram, Traffic};
use crate::rules::ports::LOWEST;
use crate::rules::ruleset::{RuleKind, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Packets of one kind that look alike.
#[derive(Debug, Clone)]
pub(super) struct Group<'t> {
    pub(super) kind: RuleKind,
    pub(super) members: Vec<&'t Datagram>,
    /// Whether the kind was seen rather than guessed.
    pub(super) sure: bool,
    /// Why it is of this kind.
    pub(super) why: String,
    /// How long the slowest answer took: for questions.
    pub(super) slowest: Option<Duration>,
}

/// How servers were joined. The system's own ports (a shared folder on the same computer) are no join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Join {
    pub(super) at: Duration,
    pub(super) server: IpAddr,
    pub(super) transport: Transport,
    pub(super) port: u16,
    /// The server opened the connection, to the client.
    pub(super) backwards: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Roles<'t> {
    pub(super) groups: Vec<Group<'t>>,
    pub(super) joins: Vec<Join>,
    /// Unicast packets of the game itself.
    pub(super) play: Vec<&'t Datagram>,
}

/// Finds them.
pub(super) fn roles(traffic: &Traffic) -> Roles<'_> {
    let shapes = cluster(traffic.many.iter());
    let talk = Talk::new(traffic);
    let mut kinds: Vec<Option<Kind>> = shapes.iter().map(|shape| talk.answered(shape)).collect();
    answered_to_many(&shapes, &mut kinds);
    let answers: Vec<&Datagram> = talk.answers(&shapes, &kinds);
    same_socket(&shapes, &mut kinds);

    let mut servers: BTreeSet<IpAddr> = answers.iter().map(|a| a.from.ip()).collect();
    servers.extend(members_of(&shapes, &kinds, RuleKind::Answer).map(|d| d.from.ip()));
    servers.extend(talk.joined(traffic, &shapes, &kinds, &answers));
    let clients: BTreeSet<IpAddr> =
        members_of(&shapes, &kinds, RuleKind::Query).map(|d| d.from.ip()).collect();
    for (shape, kind) in shapes.iter().zip(&mut kinds) {
        if kind.is_none() {
            *kind = Some(unasked(shape, &servers, &clients));
        }
    }
    servers.extend(members_of(&shapes, &kinds, RuleKind::Announcement).map(|d| d.from.ip()));

    let mut groups: Vec<Group<'_>> = shapes
        .into_iter()
        .zip(kinds)
        .filter_map(|(members, kind)| Some(kind?.group(members)))
        .chain(cluster(answers.iter().copied()).into_iter().map(|members| {
            let why = "sent to the port that asked, soon after the question".to_owned();
            Kind { kind: RuleKind::Answer, sure: true, why, slowest: None }.group(members)
        }))
        .collect();
    mark_closings(&mut groups);
    let joins = talk.joins(traffic, &servers, &groups);
    let answered: BTreeSet<*const Datagram> = answers.iter().map(|a| std::ptr::from_ref(*a)).collect();
    // What is an answer bit for bit is one, also where it was asked for in a join.
    let same = |d: &Datagram| {
        answers.iter().any(|a| {
            a.payload.len() == d.payload.len()
                && a.from.port() == d.from.port()
                && alike(&a.payload, &d.payload)
        })
    };
    let play = traffic.one.iter().filter(|d| !answered.contains(&std::ptr::from_ref(*d)) && !same(d));
    let play = play.filter(|d| servers.contains(&d.from.ip()) || servers.contains(&d.to.ip())).collect();
    Roles { groups, joins, play }
}

struct Kind {
    kind: RuleKind,
    sure: bool,
    why: String,
    slowest: Option<Duration>,
}

impl Kind {
    fn group(self, members: Vec<&Datagram>) -> Group<'_> {
        let Self { kind, sure, why, slowest } = self;
        Group { kind, members, sure, why, slowest }
    }
}

/// Packets that look alike, together; in the order in which each kind was first heard.
fn cluster<'t>(packets: impl Iterator<Item = &'t Datagram>) -> Vec<Vec<&'t Datagram>> {
    let mut shapes: Vec<Vec<&Datagram>> = Vec::new();
    for packet in packets {
        let full = shapes.len() >= MOST_SHAPES;
        let known =
            shapes.iter_mut().find(|s| s.first().is_some_and(|first| alike(&first.payload, &packet.payload)));
        match known {
            Some(shape) => shape.push(packet),
            None if !full => shapes.push(vec![packet]),
            None => {}
        }
    }
    shapes
}

/// Who spoke to whom alone, by socket.
struct Talk<'t> {
    to: BTreeMap<SocketAddr, Vec<&'t Datagram>>,
}

impl<'t> Talk<'t> {
    fn new(traffic: &'t Traffic) -> Self {
        let mut to: BTreeMap<SocketAddr, Vec<&Datagram>> = BTreeMap::new();
        for one in &traffic.one {
            to.entry(one.to).or_default().push(one);
        }
        Self { to }
    }

    /// Replies to one question: unicast to its socket, soon.
    fn replies(&self, question: &Datagram) -> impl Iterator<Item = &'t Datagram> + use<'t, '_> {
        let all = self.to.get(&question.from).map_or(&[][..], Vec::as_slice);
        let (from, end, own) = (question.at, question.at + SOON, question.from.ip());
        let start = all.partition_point(|d| d.at < from);
        all.iter().copied().skip(start).take_while(move |d| d.at <= end).filter(move |d| d.from.ip() != own)
    }

    /// When a client began to speak to a server's socket of other things than the question.
    fn talks_since(
        &self,
        client: SocketAddr,
        server: SocketAddr,
        questions: &[&Datagram],
    ) -> Option<Duration> {
        let said = self.to.get(&server)?.iter().filter(|d| d.from == client);
        said.filter(|d| !questions.iter().any(|q| alike(&q.payload, &d.payload))).map(|d| d.at).min()
    }

    fn answered(&self, shape: &[&Datagram]) -> Option<Kind> {
        let (mut times, mut slowest) = (0, Duration::ZERO);
        for question in shape {
            let reply = self.replies(question).find(|reply| {
                let since = self.talks_since(question.from, reply.from, shape.get(..1).unwrap_or(shape));
                since.is_none_or(|since| reply.at < since)
            });
            if let Some(reply) = reply {
                times += 1;
                slowest = slowest.max(reply.at.saturating_sub(question.at));
            }
        }
        (times > 0).then(|| Kind {
            kind: RuleKind::Query,
            sure: true,
            why: format!("{times} of {} were answered, to the port they came from", shape.len()),
            slowest: Some(slowest),
        })
    }

    /// All unicast answers.
    fn answers(&self, shapes: &[Vec<&'t Datagram>], kinds: &[Option<Kind>]) -> Vec<&'t Datagram> {
        let questions: Vec<&Datagram> = shapes
            .iter()
            .zip(kinds)
            .filter(|(_, k)| is(k, RuleKind::Query))
            .filter_map(|(s, _)| s.first().copied())
            .collect();
        let mut since: BTreeMap<(SocketAddr, SocketAddr), Option<Duration>> = BTreeMap::new();
        let mut found: BTreeMap<*const Datagram, &Datagram> = BTreeMap::new();
        for question in members_of(shapes, kinds, RuleKind::Query) {
            for reply in self.replies(question) {
                let talks = *since
                    .entry((question.from, reply.from))
                    .or_insert_with(|| self.talks_since(question.from, reply.from, &questions));
                if talks.is_none_or(|talks| reply.at < talks) {
                    found.insert(std::ptr::from_ref(reply), reply);
                }
            }
        }
        let mut found: Vec<&Datagram> = found.into_values().collect();
        found.sort_by_key(|d| (d.at, d.from, d.to));
        found
    }

    /// Computers that were joined after they said something to many that nobody answered.
    fn joined(
        &self,
        traffic: &Traffic,
        shapes: &[Vec<&Datagram>],
        kinds: &[Option<Kind>],
        answers: &[&Datagram],
    ) -> BTreeSet<IpAddr> {
        let mut since: BTreeMap<IpAddr, Duration> = BTreeMap::new();
        for said in shapes.iter().zip(kinds).filter(|(_, k)| k.is_none()).flat_map(|(s, _)| s.iter()) {
            let first = since.entry(said.from.ip()).or_insert(said.at);
            *first = said.at.min(*first);
        }
        let asks: BTreeSet<IpAddr> =
            members_of(shapes, kinds, RuleKind::Query).map(|d| d.from.ip()).collect();
        let answered: BTreeSet<(SocketAddr, SocketAddr)> = answers.iter().map(|a| (a.from, a.to)).collect();
        let said =
            traffic.one.iter().filter(|d| !answered.contains(&(d.from, d.to)) && !self.replies_to_earlier(d));
        let opened = traffic.openings.iter().map(|o| (o.at, o.to.ip()));
        opened
            .chain(said.map(|d| (d.at, d.to.ip())))
            .filter(|(at, to)| !asks.contains(to) && since.get(to).is_some_and(|since| since <= at))
            .map(|(_, to)| to)
            .collect()
    }

    /// Whether the other side spoke first.
    fn replies_to_earlier(&self, packet: &Datagram) -> bool {
        self.to
            .get(&packet.from)
            .is_some_and(|all| all.iter().any(|d| d.from == packet.to && d.at <= packet.at))
    }

    fn joins(&self, traffic: &Traffic, servers: &BTreeSet<IpAddr>, groups: &[Group<'_>]) -> Vec<Join> {
        let questions: Vec<&Datagram> = groups
            .iter()
            .filter(|g| g.kind == RuleKind::Query)
            .filter_map(|g| g.members.first().copied())
            .collect();
        let answers = groups.iter().filter(|g| g.kind == RuleKind::Answer).flat_map(|g| g.members.iter());
        let answered: BTreeSet<(SocketAddr, SocketAddr)> = answers.map(|a| (a.from, a.to)).collect();
        let mut joins: Vec<Join> = Vec::new();
        let mut add = |join: Join| {
            let same = |j: &Join| (j.server, j.transport, j.port) == (join.server, join.transport, join.port);
            if join.port >= LOWEST && joins.len() < MOST_JOINS && !joins.iter().any(same) {
                joins.push(join);
            }
        };
        for opening in &traffic.openings {
            let backwards = servers.contains(&opening.from.ip()) && !servers.contains(&opening.to.ip());
            if backwards || servers.contains(&opening.to.ip()) {
                let server = if backwards { opening.from.ip() } else { opening.to.ip() };
                add(Join {
                    at: opening.at,
                    server,
                    transport: Transport::Tcp,
                    port: opening.to.port(),
                    backwards,
                });
            }
        }
        for said in traffic.one.iter().filter(|d| servers.contains(&d.to.ip())) {
            let asks = questions.iter().any(|q| alike(&q.payload, &said.payload));
            let answers = |a: SocketAddr, b: SocketAddr| answered.contains(&(a, b));
            let starts = !self.replies_to_earlier(said) || answers(said.to, said.from);
            if !asks && starts && !answers(said.from, said.to) {
                let (server, port) = (said.to.ip(), said.to.port());
                add(Join { at: said.at, server, transport: Transport::Udp, port, backwards: false });
            }
        }
        joins.sort();
        joins
    }
}

/// Pairs of shapes to many of which one follows the other, each time and from another computer.
fn answered_to_many(shapes: &[Vec<&Datagram>], kinds: &mut [Option<Kind>]) {
    for q in 0..shapes.len() {
        for a in 0..shapes.len() {
            let (Some(asked), Some(said)) = (shapes.get(q), shapes.get(a)) else { continue };
            let free = |i: usize, kinds: &[Option<Kind>], kind| {
                kinds.get(i).is_some_and(|k| k.as_ref().is_none_or(|k| k.kind == kind))
            };
            if q == a || !free(q, kinds, RuleKind::Query) || !free(a, kinds, RuleKind::Answer) {
                continue;
            }
            let before = |d: &&Datagram| {
                asked
                    .iter()
                    .filter(|x| x.from.ip() != d.from.ip() && x.at <= d.at && d.at - x.at <= SOON)
                    .map(|x| d.at - x.at)
                    .min()
            };
            let delays: Vec<Duration> = said.iter().filter_map(before).collect();
            let followed = asked
                .iter()
                .filter(|x| {
                    said.iter().any(|d| d.from.ip() != x.from.ip() && d.at >= x.at && d.at - x.at <= SOON)
                })
                .count();
            // An announcer that is heard anyway also speaks when nobody asked, or much more often than asked.
            let each =
                delays.len() == said.len() && followed * 2 >= asked.len() && said.len() <= asked.len() * 2;
            if !each {
                continue;
            }
            let (count, slowest) = (said.len(), delays.into_iter().max());
            if let Some(kind) = kinds.get_mut(q).filter(|k| k.is_none()) {
                let why = format!(
                    "{followed} of {} were followed by another computer's packet to many",
                    asked.len()
                );
                *kind = Some(Kind { kind: RuleKind::Query, sure: count > 1, why, slowest });
            }
            if let Some(kind) = kinds.get_mut(a) {
                let why = "said to many, each time soon after a question and never without".to_owned();
                *kind = Some(Kind { kind: RuleKind::Answer, sure: count > 1, why, slowest: None });
            }
        }
    }
}

/// What leaves from the socket of a question to the same port is a question too.
fn same_socket(shapes: &[Vec<&Datagram>], kinds: &mut [Option<Kind>]) {
    let asked: BTreeSet<(SocketAddr, u16)> =
        members_of(shapes, kinds, RuleKind::Query).map(|d| (d.from, d.to.port())).collect();
    for (shape, kind) in shapes.iter().zip(kinds) {
        if kind.is_none() && shape.iter().any(|d| asked.contains(&(d.from, d.to.port()))) {
            let why = "nobody answered this one, but it comes from the socket that asks the other questions";
            *kind = Some(Kind { kind: RuleKind::Query, sure: true, why: why.to_owned(), slowest: None });
        }
    }
}

/// What nobody answered.
fn unasked(shape: &[&Datagram], servers: &BTreeSet<IpAddr>, clients: &BTreeSet<IpAddr>) -> Kind {
    let by = |who: &BTreeSet<IpAddr>| shape.iter().any(|d| who.contains(&d.from.ip()));
    let (kind, sure, why) = if by(servers) {
        (RuleKind::Announcement, true, "a server says it to many, unasked")
    } else if by(clients) {
        (RuleKind::Query, false, "nobody answered; the one who says it asks other questions")
    } else if shape.len() >= 3 || shape.iter().any(|d| d.payload.len() >= 24) {
        (
            RuleKind::Announcement,
            false,
            "nobody answered or joined, and it is said again and again or is long",
        )
    } else {
        (RuleKind::Query, false, "nobody answered or joined, and it is short")
    };
    Kind { kind, sure, why: why.to_owned(), slowest: None }
}

/// An announcement that came once a sender, after its others had ended, and looks different.
fn mark_closings(groups: &mut [Group<'_>]) {
    let last_of = |g: &Group<'_>| {
        let mut last: BTreeMap<IpAddr, Duration> = BTreeMap::new();
        g.members.iter().for_each(|d| {
            last.insert(d.from.ip(), d.at);
        });
        last
    };
    let lasts: Vec<(usize, BTreeMap<IpAddr, Duration>)> = groups
        .iter()
        .map(|g| if g.kind == RuleKind::Announcement { g.members.len() } else { 0 })
        .zip(groups.iter().map(last_of))
        .collect();
    for (i, group) in groups.iter_mut().enumerate() {
        if group.kind != RuleKind::Announcement {
            continue;
        }
        let Some((count, own)) = lasts.get(i) else { continue };
        let ends = own.iter().all(|(ip, at)| {
            lasts.iter().enumerate().any(|(j, (others, last))| {
                j != i && *others >= count * 2 && last.get(ip).is_some_and(|last| last < at)
            })
        });
        if ends && *count <= own.len() * 3 {
            group.kind = RuleKind::Closing;
            "a server's last word: its announcements ended before".clone_into(&mut group.why);
        }
    }
}

fn is(kind: &Option<Kind>, wanted: RuleKind) -> bool {
    kind.as_ref().is_some_and(|k| k.kind == wanted)
}

fn members_of<'s, 't>(
    shapes: &'s [Vec<&'t Datagram>],
    kinds: &'s [Option<Kind>],
    kind: RuleKind,
) -> impl Iterator<Item = &'t Datagram> + use<'s, 't> {
    shapes.iter().zip(kinds).filter(move |(_, k)| is(k, kind)).flat_map(|(s, _)| s.iter().copied())
}

/// Servers answer at once; one that loads takes a few seconds.
const SOON: Duration = Duration::from_secs(3);
/// Kinds of packets that look different; a profile has at most 64 rules.
const MOST_SHAPES: usize = 32;
const MOST_JOINS: usize = 32;
