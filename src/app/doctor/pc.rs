//! What is told about this computer: pure, from what `host::checkup` and the cards say.

use crate::host::checkup::firewall::{Fate, Firewall, Maker};
use crate::host::checkup::rights::{CardKind, Rights};
use crate::model::addr::{Card, Subnet};
use crate::model::checkup::{Finding, Mark, Section};
use crate::model::limits::MTU_FLOOR;
use crate::model::status::Mode;

/// What rights would add to proxy mode.
const RIGHTS_ADD: &str = "with the right to make one, lan mode also carries the games that proxy mode cannot, and those \
    that have no profile: sudo lanrage run …, or once: sudo setcap cap_net_admin,cap_net_raw+ep $(which lanrage)";

/// Cards that are named; a PC with more is a server.
const NAMED: usize = 5;

/// What is known about this computer.
#[derive(Debug)]
pub(super) struct Pc<'a> {
    /// A node runs here, in this mode.
    pub(super) runs: Option<Mode>,
    pub(super) rights: Option<Rights>,
    pub(super) cards: &'a [Card],
    /// What the card of the default route is like.
    pub(super) default: (Option<CardKind>, Option<u16>),
    pub(super) subnet: Option<Subnet>,
    pub(super) firewall: Option<Firewall>,
    pub(super) adapter: &'a str,
    /// The tunnel's UDP port.
    pub(super) port: Option<u16>,
}

impl Pc<'_> {
    /// The findings.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let mut out = Vec::new();
        out.extend(self.rights());
        out.push(self.cards());
        out.extend(self.vpn());
        out.extend(self.clash());
        if cfg!(target_os = "linux") {
            self.firewall(&mut out);
        }
        out
    }

    fn rights(&self) -> Option<Finding> {
        match self.runs {
            Some(Mode::Lan) => {
                return Some(finding(
                    Mark::Ok,
                    "device_up",
                    "lanrage is running, and its network device works",
                ));
            }
            Some(Mode::Proxy) => {
                let what = "lanrage is running in proxy mode: ports of this PC stand for the others' games";
                return Some(finding(Mark::Ok, "proxy_up", what).with_try(RIGHTS_ADD));
            }
            None => {}
        }
        let rights = self.rights?;
        Some(if !rights.tun {
            let what =
                "this system has no tunnel devices (/dev/net/tun is missing): games are played in proxy mode";
            finding(Mark::Note, "no_tun", what).with_try(
                "for games that proxy mode cannot carry: sudo modprobe tun; in a container: pass in the device /dev/net/tun",
            )
        } else if rights.admin && rights.raw {
            finding(Mark::Ok, "rights", "a network device for games may be made")
        } else {
            let what = "this user may not make a network device: games are played in proxy mode, which needs no rights";
            finding(Mark::Note, "no_rights", what).with_try(RIGHTS_ADD)
        })
    }

    /// No device carries games, or would.
    fn is_proxy(&self) -> bool {
        match self.runs {
            Some(mode) => mode == Mode::Proxy,
            None => self.rights.is_some_and(|r| !(r.tun && r.admin && r.raw)),
        }
    }

    fn cards(&self) -> Finding {
        let default = self.cards.iter().find(|c| c.default_route);
        let list: Vec<String> = self.cards.iter().take(NAMED).map(describe).collect();
        let more = self.cards.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        match (default, self.default.1) {
            (None, _) if self.cards.is_empty() => {
                finding(Mark::Problem, "no_card", "no network card of this PC is up")
                    .with_try("plug in a cable, or connect to Wi-Fi")
            }
            (None, _) => finding(
                Mark::Problem,
                "no_internet",
                format!("no network card leads to the internet ({}{more})", list.join(", ")),
            )
            .with_try("connect to a router; games in your own network work without"),
            (Some(card), Some(mtu)) if mtu < MTU_FLOOR => {
                finding(Mark::Problem, "mtu", format!("{} takes packets of at most {mtu} bytes", card.name))
                    .with_try(format!("sudo ip link set {} mtu 1500 (at least {MTU_FLOOR})", card.name))
            }
            (Some(card), mtu) => {
                let mtu = mtu
                    .filter(|m| *m < 1500)
                    .map_or(String::new(), |m| format!("; it takes {m} bytes at a time, lanrage adapts"));
                finding(
                    Mark::Ok,
                    "cards",
                    format!("{}{more}; the internet is reached by {}{mtu}", list.join(", "), card.name),
                )
            }
        }
    }

    fn vpn(&self) -> Option<Finding> {
        let card = self.cards.iter().find(|c| c.default_route)?;
        let tunnel = self.default.0 == Some(CardKind::Tunnel);
        tunnel.then(|| {
            finding(
                Mark::Note,
                "vpn",
                format!(
                    "everything goes through the VPN {}: a longer way, and no router to open a port",
                    card.name
                ),
            )
            .with_try("switch the VPN off while playing, or keep lanrage out of it (split tunnelling)")
        })
    }

    fn clash(&self) -> Option<Finding> {
        let subnet = self.subnet?;
        let net_of = |c: &Card| c.nets.iter().find(|n| n.clashes_with(subnet)).copied();
        let hit = self.cards.iter().find_map(|c| Some((c.name.as_str(), net_of(c)?)));
        Some(match hit {
            Some((card, net)) => finding(
                Mark::Problem,
                "subnet_clash",
                format!("the party's network {subnet} is also that of {card} ({}/{})", net.addr, net.prefix),
            )
            .with_try("the party's host should start with --subnet A.B.C.0/24 and another network"),
            None => finding(Mark::Ok, "subnet", format!("the party's network {subnet} is used by no card")),
        })
    }

    fn firewall(&self, out: &mut Vec<Finding>) {
        let Some(wall) = self.firewall else {
            return out.push(
                finding(
                    Mark::Note,
                    "firewall_unread",
                    "the firewall's rules could not be read, so nothing is known about it",
                )
                .with_try("sudo lanrage doctor"),
            );
        };
        let (adapter, maker) = (self.adapter, wall.maker);
        let port = self.port.map_or_else(|| "PORT".to_owned(), |p| p.to_string());
        let allow_games = match maker {
            Maker::Ufw => format!("sudo ufw allow in on {adapter}"),
            Maker::Firewalld => format!("sudo firewall-cmd --zone=trusted --add-interface={adapter}"),
            Maker::Other => format!("accept what comes in by {adapter}: iifname \"{adapter}\" accept"),
        };
        let allow_port = match maker {
            Maker::Ufw => format!("sudo ufw allow {port}/udp"),
            Maker::Firewalld => format!("sudo firewall-cmd --add-port={port}/udp"),
            Maker::Other => format!("accept UDP port {port}: udp dport {port} accept"),
        };
        let allow_port = if self.port.is_some() {
            allow_port
        } else {
            "start a party once with --listen 0.0.0.0:41641, and accept that UDP port".to_owned()
        };
        // What a proxy hands to games comes from this computer itself.
        let games = if self.is_proxy() { Fate::Passes } else { wall.games };
        match games {
            Fate::Passes => {}
            Fate::Dropped => out.push(
                finding(Mark::Problem, "firewall_games", format!("the firewall drops what comes from your friends by {adapter}: they cannot join games that you host"))
                    .with_try(allow_games),
            ),
            Fate::Unsure => out.push(
                finding(Mark::Note, "firewall_unsure", "there is a firewall whose rules are not understood here")
                    .with_try(format!("if friends see your game and cannot join it: {allow_games}")),
            ),
        }
        match (wall.answers, wall.strangers) {
            (Fate::Dropped, _) => out.push(
                finding(Mark::Problem, "firewall_answers", "the firewall drops all UDP that comes in, even answers").with_try(allow_port),
            ),
            (_, Fate::Dropped) => out.push(
                finding(Mark::Note, "firewall_port", "the firewall lets in by UDP only who was spoken to first; that works, but an open port helps friends with difficult routers")
                    .with_try(allow_port),
            ),
            (Fate::Passes | Fate::Unsure, Fate::Passes | Fate::Unsure) => {}
        }
        if (games, wall.strangers, wall.answers) == (Fate::Passes, Fate::Passes, Fate::Passes) {
            out.push(finding(Mark::Ok, "firewall_open", "the firewall lets games and the tunnel through"));
        }
    }
}

fn finding(mark: Mark, code: &str, found: impl Into<String>) -> Finding {
    Finding::new(Section::Pc, mark, code, found)
}

fn describe(card: &Card) -> String {
    let v4 = card.nets.iter().find(|n| n.addr.is_ipv4()).or_else(|| card.nets.first());
    v4.map_or_else(
        || format!("{} (no address)", card.name),
        |n| format!("{} {}/{}", card.name, n.addr, n.prefix),
    )
}

/// How far a server's clock is from this computer's.
pub(super) fn clock(server: &str, ahead: i64) -> Finding {
    let off = ahead.unsigned_abs();
    if off <= 60 {
        return finding(Mark::Ok, "clock", format!("the clock agrees with that of {server}"));
    }
    let side = if ahead > 0 { "behind" } else { "ahead of" };
    let time = if off < 7200 { format!("{} min", off / 60) } else { format!("{} h", off / 3600) };
    finding(Mark::Note, "clock_off", format!("this PC's clock is {time} {side} that of {server}"))
        .with_try("switch on setting the time automatically (timedatectl set-ntp true)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::addr::Net;
    use crate::model::id::CardId;

    fn card(name: &str, addr: &str, default_route: bool) -> Card {
        let nets = vec![Net { addr: addr.parse().unwrap(), prefix: 24 }];
        Card { id: CardId(2), name: name.into(), nets, default_route }
    }

    fn wall(games: Fate, strangers: Fate, answers: Fate) -> Firewall {
        Firewall { maker: Maker::Ufw, games, strangers, answers }
    }

    fn pc(cards: &[Card]) -> Pc<'_> {
        Pc {
            runs: None,
            rights: Some(Rights { tun: true, admin: true, raw: true }),
            cards,
            default: (Some(CardKind::Plain), Some(1500)),
            subnet: Some(Subnet([10, 83, 7])),
            firewall: Some(wall(Fate::Passes, Fate::Passes, Fate::Passes)),
            adapter: "lanrage0",
            port: Some(41_641),
        }
    }

    fn found(pc: &Pc<'_>, code: &str) -> Finding {
        let all = pc.findings();
        all.iter().find(|f| f.code == code).cloned().unwrap_or_else(|| panic!("no {code} in {all:?}"))
    }

    #[test]
    fn a_good_pc_has_nothing_to_try() {
        let cards = [card("eth0", "192.168.1.5", true), card("wlan0", "192.168.2.5", false)];
        let all = pc(&cards).findings();
        assert!(all.iter().all(|f| f.mark == Mark::Ok && f.r#try.is_empty()), "{all:?}");
    }

    #[test]
    fn what_is_wrong_with_cards_and_rights_is_told() {
        let cards = [card("eth0", "10.83.7.5", true)];
        assert_eq!(found(&pc(&cards), "subnet_clash").mark, Mark::Problem);
        let mut one = pc(&cards);
        one.default = (Some(CardKind::Tunnel), Some(1200));
        assert_eq!(found(&one, "vpn").mark, Mark::Note);
        assert_eq!(found(&one, "mtu").mark, Mark::Problem);
        one.rights = Some(Rights { tun: true, admin: false, raw: false });
        let no_rights = found(&one, "no_rights");
        assert!(no_rights.mark == Mark::Note && no_rights.r#try.contains("sudo setcap"), "{no_rights:?}");
        one.rights = Some(Rights { tun: false, admin: true, raw: true });
        assert_eq!(found(&one, "no_tun").mark, Mark::Note, "games can be played without");
        one.runs = Some(Mode::Lan);
        assert_eq!(found(&one, "device_up").mark, Mark::Ok);
        one.runs = Some(Mode::Proxy);
        let up = found(&one, "proxy_up");
        assert!(up.mark == Mark::Ok && up.r#try.contains("sudo"), "and what rights would add: {up:?}");
        assert_eq!(found(&pc(&[]), "no_card").mark, Mark::Problem);
        assert_eq!(found(&pc(&[card("eth0", "192.168.1.5", false)]), "no_internet").mark, Mark::Problem);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_firewall_is_told_with_the_command_that_opens_it() {
        let cards = [card("eth0", "192.168.1.5", true)];
        let mut one = pc(&cards);
        one.firewall = Some(wall(Fate::Dropped, Fate::Dropped, Fate::Passes));
        assert_eq!(found(&one, "firewall_games").r#try, "sudo ufw allow in on lanrage0");
        let port = found(&one, "firewall_port");
        assert_eq!((port.mark, port.r#try.as_str()), (Mark::Note, "sudo ufw allow 41641/udp"));
        one.firewall = Some(wall(Fate::Passes, Fate::Dropped, Fate::Dropped));
        assert_eq!(found(&one, "firewall_answers").mark, Mark::Problem);
        one.firewall = Some(wall(Fate::Unsure, Fate::Passes, Fate::Passes));
        assert_eq!(found(&one, "firewall_unsure").mark, Mark::Note);
        one.firewall = Some(wall(Fate::Dropped, Fate::Passes, Fate::Passes));
        one.runs = Some(Mode::Proxy);
        assert_eq!(found(&one, "firewall_open").mark, Mark::Ok, "no device that it could close");
        one.runs = None;
        one.firewall = None;
        assert_eq!(found(&one, "firewall_unread").mark, Mark::Note);
    }

    #[test]
    fn a_clock_is_off_from_a_minute_on() {
        assert_eq!(clock("h:1", 60).code, "clock");
        let off = clock("h:1", -180);
        assert_eq!((off.code.as_str(), off.mark), ("clock_off", Mark::Note));
        assert!(off.found.contains("3 min ahead of"), "{off:?}");
        assert!(clock("h:1", 180).found.contains("3 min behind"));
    }
}
