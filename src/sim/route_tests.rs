//! Datagrams through rows of boxes; and an ideal puncher, which must reach exactly what `permits` promises.

use super::super::link::Weather;
use super::super::nat::{Kind, Spec, V6};
use super::super::permits::{By, Permit, permits};
use super::*;
use crate::model::dice::{Dice, Seed};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

const STUN: [[u8; 4]; 2] = [[11, 0, 0, 10], [11, 0, 0, 11]];
const NOW: Mono = Mono::ZERO;

/// Homes of these kinds, one computer each, and a server with two addresses. Boxes of one carrier are shared when `shared`.
struct Lab {
    net: Net,
    cards: Vec<Vec<SimCard>>,
}

impl Lab {
    fn new(homes: &[Vec<Spec>], shared: bool) -> Self {
        let seed = Seed::from_u64(5);
        let mut net = Net::new(Vec::new(), Weather::default(), Weather::default(), seed);
        for address in STUN {
            net.servers.insert(address.into(), 0);
        }
        let mut cards = Vec::new();
        let mut carrier = None;
        for (home, row) in homes.iter().enumerate() {
            let n = home as u8;
            let translates = row.iter().any(|b| b.translates);
            let address = if translates { [192, 168, 1, 10] } else { [11, 1, n, 10] };
            let card =
                SimCard::new(0, address.into(), 24, home).with_v6(format!("2a0f:{n}::10").parse().unwrap());
            let mut outer = Outer::Internet;
            for (at, spec) in row.iter().enumerate().rev() {
                if let (Some(number), true) = (carrier, shared && at == 1) {
                    outer = Outer::Behind(number);
                    continue;
                }
                let number = net.boxes.len();
                let public = match outer {
                    Outer::Internet => Ipv4Addr::new(11, 0, n + 1, 2),
                    Outer::Behind(_) => Ipv4Addr::new(100, 64, 0, n + 2),
                };
                net.boxes.push(NatBox::new(*spec, outer, public, seed.dice(&format!("box {number}"))));
                if at == 1 {
                    carrier = Some(number);
                }
                outer = Outer::Behind(number);
            }
            net.routers.push(match outer {
                Outer::Internet => Router::Open,
                Outer::Behind(number) => Router::Box(number),
            });
            net.plug(home, std::slice::from_ref(&card));
            cards.push(vec![card]);
        }
        Self { net, cards }
    }

    fn of(kinds: &[Kind]) -> Self {
        let rows: Vec<Vec<Spec>> =
            kinds.iter().map(|k| [k.home(), k.carrier()].into_iter().flatten().collect()).collect();
        Self::new(&rows, false)
    }

    fn depart(&mut self, pc: usize, port: u16, to: SocketAddr) -> Option<Flight> {
        match self.net.depart(pc, &self.cards[pc], port, to, NOW)? {
            Departure::Flies(flight) => Some(flight),
            Departure::Straight(route) => Some(Flight {
                by: Some(pc),
                from: route.from,
                to,
                realm: Outer::Internet,
                out: route.out,
                into: route.into,
            }),
        }
    }

    /// What a server sees of a socket.
    fn seen(&mut self, pc: usize, port: u16, server: usize) -> Option<SocketAddr> {
        let flight = self.depart(pc, port, SocketAddr::new(STUN[server].into(), 3478))?;
        assert_eq!(self.net.land(&flight, NOW), Some(Landing::Server(0)));
        Some(flight.from)
    }
}

/// A puncher that knows everything a server can tell, and makes no mistake.
struct Puncher {
    lab: Lab,
    dice: Dice,
    /// What each side has heard: its port, and where from.
    heard: [BTreeSet<(u16, SocketAddr)>; 2],
    /// What each side has said so far: from which port, whereto.
    said: [BTreeSet<(u16, SocketAddr)>; 2],
}

impl Puncher {
    /// Both sides say what they have to say, then all of it arrives.
    fn round(&mut self, plans: [Vec<(u16, SocketAddr)>; 2]) {
        let mut flights = Vec::new();
        let most = plans.iter().map(Vec::len).max().unwrap_or(0);
        // In turns, as on two computers at once.
        for i in 0..most {
            for (pc, plan) in plans.iter().enumerate() {
                if let Some((port, to)) = plan.get(i) {
                    self.said[pc].insert((*port, *to));
                    flights.extend(self.lab.depart(pc, *port, *to));
                }
            }
        }
        for flight in flights {
            if let Some(Landing::Pc(pc, to)) = self.lab.net.land(&flight, NOW) {
                self.heard[pc].insert((to.port(), flight.from));
            }
        }
    }

    /// Both answer to wherever they were heard from, a few times.
    fn settles(&mut self) -> bool {
        for _ in 0..4 {
            let answers = self.heard.clone().map(|h| h.into_iter().collect());
            self.round(answers);
        }
        // A path: one side sends where the other was heard from, and is heard from there itself.
        self.heard.iter().zip(&self.said).all(|(heard, said)| heard.iter().any(|way| said.contains(way)))
    }

    /// `by` is what is tried.
    fn punch(kinds: [Kind; 2], by: By) -> bool {
        let mut p = Self {
            lab: Lab::of(&kinds),
            dice: Seed::from_u64(9).dice("puncher"),
            heard: [BTreeSet::new(), BTreeSet::new()],
            said: [BTreeSet::new(), BTreeSet::new()],
        };
        let mut known = [None; 2];
        for (pc, known) in known.iter_mut().enumerate() {
            *known = p.lab.seen(pc, 4000, 0);
        }
        let [Some(a), Some(b)] = known else { return false };
        let ports = |around: SocketAddr, count: u16| {
            (1..=count).map(move |n| (4000, SocketAddr::new(around.ip(), around.port().wrapping_add(n))))
        };
        let all = |steady: SocketAddr| (4000..4256).map(move |port| (port, steady)).collect::<Vec<_>>();
        match by {
            By::Plain => p.round([vec![(4000, b)], vec![(4000, a)]]),
            By::Predict => {
                // Whoever counts is guessed; whoever does not is at its known address.
                let counts = kinds.map(|k| k == Kind::SymmetricSequential);
                let plan = |guess: bool, at: SocketAddr| {
                    if guess { ports(at, 20).collect() } else { vec![(4000, at)] }
                };
                p.round([plan(counts[1], b), plan(counts[0], a)]);
            }
            By::Birthday => {
                let depends = kinds.map(|k| matches!(k, Kind::Symmetric | Kind::CgnatSymmetric));
                let mut probes = |at: SocketAddr| {
                    let mut port = || SocketAddr::new(at.ip(), p.dice.range(1024, 65_535) as u16);
                    (0..1000).map(|_| (4000, port())).collect::<Vec<_>>()
                };
                let plans = match depends {
                    [true, false] => [all(b), probes(a)],
                    [false, true] => [probes(b), all(a)],
                    [_, _] => [probes(b), probes(a)],
                };
                p.round(plans);
            }
            By::Lan | By::Hairpin | By::PortMapping | By::Ipv6 => return false,
        }
        p.settles()
    }
}

#[test]
fn an_ideal_puncher_reaches_exactly_what_is_permitted() {
    for a in Kind::ALL {
        for b in Kind::ALL {
            let lab = Lab::of(&[a, b]);
            let sides = [0, 1].map(|pc| Side { v6: false, ..lab.net.side(&lab.cards[pc]) });
            let verdict = permits(&sides[0], &sides[1], Between::Internet);
            let tried = [By::Plain, By::Predict, By::Birthday].map(|by| (by, Puncher::punch([a, b], by)));
            let first = tried.iter().find(|(_, works)| *works).map(|(by, _)| *by);
            match verdict {
                Permit::Direct(by) => assert_eq!(first, Some(by), "{a:?} {b:?}: {tried:?}"),
                Permit::None => assert_eq!(first, None, "{a:?} {b:?}: {tried:?}"),
            }
        }
    }
}

#[test]
fn packets_for_a_private_address_of_somebody_else_reach_nobody() {
    let mut lab = Lab::of(&[Kind::PortRestricted, Kind::Cgnat]);
    assert_eq!(lab.depart(0, 5, "192.168.1.77:5".parse().unwrap()), None, "nobody there");
    assert_eq!(lab.depart(0, 5, "192.168.2.10:5".parse().unwrap()), None);
    assert_eq!(lab.depart(0, 5, "100.64.0.3:5".parse().unwrap()), None);
    // The same private address at another home is one's own computer.
    let own = lab.net.depart(0, &lab.cards[0], 5, "192.168.1.10:5".parse().unwrap(), NOW);
    assert!(matches!(own, Some(Departure::Straight(route)) if route.pc == 0));
}

#[test]
fn two_homes_behind_one_carrier_meet_by_its_outside_address_only_if_it_hairpins() {
    for hairpin in [false, true] {
        let rows = vec![[Kind::Cgnat.home(), Kind::Cgnat.carrier()].into_iter().flatten().collect(); 2];
        let mut lab = Lab::new(&rows, true);
        let carrier = lab.net.row(0).nth(1).unwrap();
        assert_eq!(lab.net.row(1).nth(1), Some(carrier));
        lab.net.boxes[carrier].spec.hairpin = hairpin;
        assert_eq!(lab.net.between(&lab.cards[0], &lab.cards[1]), Between::SameBox { hairpin });
        let (a, b) = (lab.seen(0, 4000, 0).unwrap(), lab.seen(1, 4000, 0).unwrap());
        assert_eq!(a.ip(), b.ip());
        lab.depart(0, 4000, b);
        let flight = lab.depart(1, 4000, a);
        assert_eq!(flight.is_some(), hairpin);
        if let Some(flight) = flight {
            assert_eq!(flight.from, b, "seen by its outside address");
            let landed = lab.net.land(&flight, NOW);
            assert_eq!(landed, Some(Landing::Pc(0, "192.168.1.10:4000".parse().unwrap())));
        }
    }
}

#[test]
fn a_neighbour_reaches_the_outside_address_where_the_router_hairpins() {
    let spec = Spec { hairpin: true, ..Kind::FullCone.home().unwrap() };
    let mut lab = Lab::new(&[vec![spec]], false);
    let neighbour = vec![SimCard::new(0, "192.168.1.11".parse().unwrap(), 24, 0)];
    lab.net.plug(1, &neighbour);
    lab.cards.push(neighbour);
    let outside = lab.seen(0, 4000, 0).unwrap();
    let flight = lab.depart(1, 4000, outside).unwrap();
    assert_eq!(flight.from.ip(), outside.ip());
    assert_eq!(lab.net.land(&flight, NOW), Some(Landing::Pc(0, "192.168.1.10:4000".parse().unwrap())));
    lab.net.boxes[0].spec.hairpin = false;
    assert_eq!(lab.depart(1, 4000, outside), None);
}

#[test]
fn ipv6_passes_the_firewalls_once_both_have_sent() {
    let spec = Spec { v6: V6::Firewall, ..Kind::Symmetric.home().unwrap() };
    let mut lab = Lab::new(&[vec![spec], vec![spec]], false);
    let at = |n: u8| format!("[2a0f:{n}::10]:4000").parse().unwrap();
    let first = lab.depart(0, 4000, at(1)).unwrap();
    assert_eq!(first.from, at(0));
    assert_eq!(lab.net.land(&first, NOW), None);
    let second = lab.depart(1, 4000, at(0)).unwrap();
    assert_eq!(lab.net.land(&second, NOW), Some(Landing::Pc(0, at(0))));
    assert_eq!(lab.net.land(&first, NOW), Some(Landing::Pc(1, at(1))));
    let side = lab.net.side(&lab.cards[0]);
    assert!(side.v6);
    assert_eq!(permits(&side, &side, Between::Internet), Permit::Direct(By::Ipv6));
}

#[test]
fn a_server_sees_the_outermost_address_and_cut_computers_get_nothing() {
    let mut lab = Lab::of(&[Kind::Cgnat, Kind::UdpBlocked]);
    let seen = lab.seen(0, 4000, 0).unwrap();
    assert_eq!(lab.net.seen_as(&lab.cards[0], STUN[0].into()), Some(seen.ip()));
    let answer = lab.net.serve(0, SocketAddr::new(STUN[0].into(), 3478), seen).unwrap();
    assert_eq!(lab.net.land(&answer, NOW), Some(Landing::Pc(0, "192.168.1.10:4000".parse().unwrap())));
    lab.net.cut(0, 0);
    assert_eq!(lab.net.land(&answer, NOW), None);
    assert_eq!(lab.seen(1, 4000, 0), None);
    assert!(lab.net.seen_as(&lab.cards[1], STUN[0].into()).is_some(), "TCP passes");
}
