//! From profiles to the matcher that runs on every packet.
//!
//! Profiles are in order of precedence; within a profile the first rule that fits wins. Two profiles that want the same
//! packet are an error that shows both places, unless they say that they are one `family`: which of two different games
//! a packet belongs to must not depend on the order of words on a command line.

use super::diagnostic::Diagnostic;
use super::ports::{PortMap, PortRange, meet, merge};
use super::profile::{AddressForm, Profile, Rule, To};
use super::ruleset::{Action, ProfileIx, RuleFacts, Ruleset, Side, Test};
use super::tree::{Forest, longest_first};
use crate::model::id::PluginId;
use crate::model::script::PluginIx;
use crate::wire::frame::Class;

/// Makes the matcher.
///
/// # Errors
/// Every pair of rules of different games that could want the same packet, and games that are named twice.
pub fn compile(profiles: &[Profile]) -> Result<Ruleset, Vec<Diagnostic>> {
    let mut wrong = Vec::new();
    for (i, profile) in profiles.iter().enumerate() {
        for earlier in profiles.iter().take(i) {
            check_pair(earlier, profile, &mut wrong);
        }
    }
    let rules: Vec<(u16, &Profile, &Rule)> = (0u16..)
        .zip(profiles)
        .flat_map(|(ix, profile)| profile.rules.iter().map(move |rule| (ix, profile, rule)))
        .collect();
    if let (true, Some(profile)) = (rules.len() > MOST_RULES, profiles.last()) {
        wrong.push(Diagnostic {
            place: profile.place.clone(),
            message: format!("{} rules in all; at most {MOST_RULES} can run at once", rules.len()),
            help: Some("run fewer games".to_owned()),
            also: None,
        });
    }
    if wrong.is_empty() { Ok(build(profiles, &rules)) } else { Err(wrong) }
}

/// Every pair of rules for which a profile could not run together with one of the others; what it replaces is no other.
#[must_use]
pub fn ties(profile: &Profile, others: &[Profile]) -> Vec<Diagnostic> {
    let mut wrong = Vec::new();
    for other in others.iter().filter(|other| other.id != profile.id) {
        check_pair(other, profile, &mut wrong);
    }
    wrong
}

/// Rules are numbered with 16 bits; no one gets near with 16 games of 64 rules.
const MOST_RULES: usize = 16_384;

fn check_pair(a: &Profile, b: &Profile, wrong: &mut Vec<Diagnostic>) {
    if a.id == b.id {
        wrong.push(Diagnostic {
            place: b.place.clone(),
            message: format!("the game `{}` is there twice", b.id),
            help: None,
            also: Some((a.place.clone(), "the first".to_owned())),
        });
        return;
    }
    if a.family.is_some() && a.family == b.family {
        return;
    }
    for (x, y) in a.rules.iter().flat_map(|x| b.rules.iter().map(move |y| (x, y))) {
        if overlap(x, y) {
            wrong.push(Diagnostic {
                place: y.place.clone(),
                message: format!("`{}` and `{}` could want the same packet", a.id, b.id),
                help: Some("make one rule stricter, or give both profiles the same `family`".to_owned()),
                also: Some((x.place.clone(), format!("the rule of `{}`", a.id))),
            });
        }
    }
}

/// Whether some packet could fit both rules. Errs on the side of yes.
fn overlap(a: &Rule, b: &Rule) -> bool {
    let sides = a.side.is_none() || b.side.is_none() || a.side == b.side;
    let lengths = a.length.start() <= b.length.end() && b.length.start() <= a.length.end();
    sides
        && lengths
        && a.to.iter().any(|to| b.to.contains(to))
        && meet(&a.ports, &b.ports)
        && meet(&a.from_ports, &b.from_ports)
        && !a.clauses.iter().any(|x| b.clauses.iter().any(|y| x.excludes(y)))
}

fn build(profiles: &[Profile], rules: &[(u16, &Profile, &Rule)]) -> Ruleset {
    let mut plugins: Vec<PluginId> = Vec::new();
    for plugin in profiles.iter().filter_map(|profile| profile.plugin.as_ref()) {
        if !plugins.contains(plugin) {
            plugins.push(plugin.clone());
        }
    }
    let (mut by_port, mut by_source) = (Vec::new(), Vec::new());
    for ((_, _, rule), ix) in rules.iter().zip(0u16..) {
        // A rule that names destination ports is found by them; else by its source ports, which `check` made sure of.
        let (map, ranges) = if rule.ports.is_empty() {
            (&mut by_source, &rule.from_ports)
        } else {
            (&mut by_port, &rule.ports)
        };
        map.extend(ranges.iter().map(|range| (range.clone(), ix)));
    }
    let heard =
        |rule: &Rule| rule.side != Some(Side::FromPeer) && rule.to.iter().any(|to| *to != To::Unicast);
    let capture = rules.iter().filter(|(_, _, rule)| heard(rule)).flat_map(|(_, _, rule)| rule.ports.clone());
    let mut groups: Vec<_> = rules.iter().flat_map(|(_, _, rule)| groups_of(rule)).collect();
    groups.sort_unstable();
    groups.dedup();
    let tests: Vec<Test> = rules.iter().map(|(_, _, rule)| test(rule)).collect();
    let mut forest = Forest::default();
    let (by_port, by_source) = (forest.grow(&by_port, &tests), forest.grow(&by_source, &tests));
    Ruleset {
        ids: profiles.iter().map(|profile| profile.id.clone()).collect(),
        tests,
        forest,
        actions: rules.iter().map(|(ix, profile, rule)| action(*ix, profile, rule, &plugins)).collect(),
        by_port,
        by_source,
        tcp: play(profiles, |profile| &profile.play.tcp),
        udp: play(profiles, |profile| &profile.play.udp),
        peers: (0..).zip(profiles).filter(|(_, profile)| profile.play.peers).map(|(ix, _)| ix).collect(),
        capture: merge(capture.collect()),
        groups,
        heard: said_to_many(rules),
        plugins,
    }
}

/// What games say to many, as `capture` has it, with how it is addressed.
fn said_to_many(rules: &[(u16, &Profile, &Rule)]) -> Vec<(PortRange, To)> {
    let own = rules.iter().filter(|(_, _, rule)| rule.side != Some(Side::FromPeer));
    let mut said: Vec<(PortRange, To)> = own
        .flat_map(|(_, _, rule)| {
            rule.ports.iter().flat_map(|ports| rule.to.iter().map(|to| (ports.clone(), *to)))
        })
        .filter(|(_, to)| *to != To::Unicast)
        .collect();
    said.sort_unstable_by_key(|(ports, to)| (*ports.start(), *ports.end(), *to));
    said.dedup();
    said
}

fn play(profiles: &[Profile], ports: impl Fn(&Profile) -> &[PortRange]) -> PortMap {
    let items: Vec<(PortRange, u16)> = (0u16..)
        .zip(profiles)
        .flat_map(|(ix, profile)| ports(profile).iter().map(move |range| (range.clone(), ix)))
        .collect();
    PortMap::new(&items)
}

fn groups_of(rule: &Rule) -> impl Iterator<Item = std::net::IpAddr> {
    rule.to.iter().filter_map(|to| match to {
        To::Group(group) => Some(*group),
        To::Unicast | To::Limited | To::Directed => None,
    })
}

fn test(rule: &Rule) -> Test {
    let has = |class: Class| rule.to.iter().any(|to| to.class() == class);
    Test {
        side: rule.side,
        unicast: has(Class::Unicast),
        limited: has(Class::Limited),
        directed: has(Class::Directed),
        groups: groups_of(rule).collect(),
        length: rule.length.clone(),
        from_ports: if rule.ports.is_empty() { Box::default() } else { rule.from_ports.clone().into() },
        clauses: longest_first(rule.clauses.clone()),
    }
}

fn action(ix: u16, profile: &Profile, rule: &Rule, plugins: &[PluginId]) -> Action {
    let plugin = profile.plugin.as_ref().and_then(|id| plugins.iter().position(|known| known == id));
    Action {
        facts: RuleFacts {
            profile: ProfileIx(ix),
            kind: rule.kind,
            pace: rule.pace,
            life: rule.life,
            deliver: rule.deliver,
            answers_within: rule.answers_within,
            rhythm: rule.rhythm,
            keep_source_port: rule.keep_source_port,
            answers_tcp: rule.answers_tcp.clone().into(),
            opens: rule.opens.is_some(),
            rewrites: rule.rewrites.iter().any(|rewrite| !rewrite.form.is_port()),
            rewrites_port: rule.rewrites.iter().any(|r| r.form.is_port() || r.form == AddressForm::HostPort),
            plugin: plugin.and_then(|at| u16::try_from(at).ok()).map(PluginIx),
            ask: rule.ask,
            lists: rule.kind.tells_of_a_game() && rule.lists.is_some(),
        },
        join: profile.play.join,
        lists: rule.lists.clone(),
        opens: rule.opens.clone(),
        rewrites: rule.rewrites.clone().into(),
        group: groups_of(rule).next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::check::check_text;
    use crate::rules::ruleset::Transport;
    use crate::rules::shipped;
    use crate::wire::packet::{PacketView, write_udp};

    fn game(id: &str, rest: &str) -> Profile {
        let text = format!("id = \"{id}\"\nname = \"{id}\"\nevidence = \"unverified\"\n{rest}");
        check_text(&format!("{id}.toml"), &text).unwrap()
    }

    const QUERY: &str = "[[rule]]\nkind = \"query\"\nport = 5000\n";

    fn classify(rules: &Ruleset, to: &str, class: Class, side: Side, payload: &[u8]) -> Option<u16> {
        let mut room = vec![0; 2000];
        let n =
            write_udp(&mut room, "10.0.0.1:77".parse().unwrap(), to.parse().unwrap(), 1, payload).unwrap();
        rules.classify(&PacketView::parse(&room[..n]).unwrap(), class, side).map(|ix| ix.0)
    }

    #[test]
    fn all_shipped_profiles_run_together() {
        let profiles = shipped::all();
        let rules = compile(&profiles).unwrap();
        assert_eq!(rules.profiles().len(), profiles.len());
        assert!(rules.groups().contains(&"224.0.2.60".parse().unwrap()));
        assert!(rules.capture_ports().contains(&(4445..=4445)));
        assert!(rules.plays_on(Transport::Tcp, 25565).is_some());
        assert!(rules.plays_on(Transport::Tcp, 22).is_none());
        assert!(rules.plays_on(Transport::Udp, 25565).is_none());
    }

    #[test]
    fn two_games_that_want_one_packet_are_an_error_with_both_places() {
        let wrong = compile(&[game("a", QUERY), game("b", QUERY)]).unwrap_err();
        assert_eq!(
            wrong.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["b.toml:4:1: `a` and `b` could want the same packet (the rule of `a`: a.toml:4:1); \
              make one rule stricter, or give both profiles the same `family`"]
        );
    }

    #[test]
    fn games_of_one_family_may_want_one_packet_and_the_first_gets_it() {
        let family = |id| game(id, &format!("family = \"f\"\n{QUERY}"));
        let rules = compile(&[family("a"), family("b")]).unwrap();
        assert_eq!(classify(&rules, "255.255.255.255:5000", Class::Limited, Side::FromGame, b"x"), Some(0));
    }

    #[test]
    fn different_bytes_ports_lengths_sides_or_classes_are_no_tie() {
        for (a, b) in [
            ("match = { hex = \"01\" }", "match = { hex = \"02\" }"),
            ("length = \"1-5\"", "length = \"6-9\""),
            ("side = \"game\"", "side = \"peer\""),
            ("to = \"limited\"", "to = [\"directed\", \"group:239.1.1.1\"]"),
            ("from_port = 1", "from_port = \"2-9\""),
        ] {
            let with = |id, more: &str| game(id, &format!("{QUERY}{more}\n"));
            assert!(compile(&[with("a", a), with("b", b)]).is_ok(), "{a} / {b}");
            assert!(compile(&[with("a", a), with("b", a)]).is_err(), "{a}");
        }
    }

    #[test]
    fn a_game_named_twice_is_an_error() {
        let wrong = compile(&[game("a", QUERY), game("a", QUERY)]).unwrap_err();
        assert_eq!(wrong[0].to_string(), "a.toml:1:6: the game `a` is there twice (the first: a.toml:1:6)");
    }

    #[test]
    fn classify_asks_for_port_class_side_length_and_bytes() {
        let text = "[[rule]]\nkind = \"query\"\nport = \"5000-5001\"\nto = [\"limited\", \"group:239.1.1.1\"]\n\
                    side = \"game\"\nlength = \"2-3\"\nfrom_port = 77\nmatch = [{ text = \"a\" }, { at = 1, hex = [\"01\", \"02\"] }]\n";
        let rules = compile(&[game("a", text)]).unwrap();
        let ask = |to: &str, class, side, payload: &[u8]| classify(&rules, to, class, side, payload);
        let (limited, game_side) = ("255.255.255.255:5001", Side::FromGame);
        assert_eq!(ask(limited, Class::Limited, game_side, b"a\x02"), Some(0));
        assert_eq!(ask("239.1.1.1:5000", Class::Multicast, game_side, b"a\x01z"), Some(0));
        assert_eq!(ask("239.1.1.2:5000", Class::Multicast, game_side, b"a\x01z"), None, "another group");
        assert_eq!(ask("255.255.255.255:5002", Class::Limited, game_side, b"a\x02"), None, "port");
        assert_eq!(ask(limited, Class::Directed, game_side, b"a\x02"), None, "class");
        assert_eq!(ask(limited, Class::Limited, Side::FromPeer, b"a\x02"), None, "side");
        assert_eq!(ask(limited, Class::Limited, game_side, b"a\x02zz"), None, "length");
        assert_eq!(ask(limited, Class::Limited, game_side, b"a\x03"), None, "bytes");
        assert_eq!(ask(limited, Class::Limited, game_side, b"a"), None, "too short");
    }

    #[test]
    fn only_what_is_sent_to_many_is_captured_on_cards() {
        let text = "[[rule]]\nkind = \"query\"\nport = \"5000-5001\"\n[[rule]]\nkind = \"query\"\nport = \"5002-5003\"\n\
                    [[rule]]\nkind = \"answer\"\nfrom_port = 6000\nlists = false\n\
                    [[rule]]\nkind = \"query\"\nport = 7000\nside = \"peer\"\n";
        let rules = compile(&[game("a", text)]).unwrap();
        assert_eq!(rules.capture_ports(), [5000..=5003]);
    }
}
