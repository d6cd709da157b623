//! `lanrage games replay`: what the profiles make of each packet of a capture; and a capture's broadcasts, sent again.

use super::learn::read_capture;
use super::{check, find};
use crate::app::failure::Failure;
use crate::host::replay::{Again, Sender};
use crate::rules::capture::Capture;
use crate::rules::check::check_text;
use crate::rules::compile::compile;
use crate::rules::learn::Addressing;
use crate::rules::profile::Profile;
use crate::rules::ruleset::{RuleKind, Ruleset, Side, Transport};
use crate::rules::shipped::Catalog;
use crate::ui::cli::games_args::ReplayArgs;
use crate::wire::frame::Class;
use crate::wire::packet::PacketView;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Longest pause: who waits for a capture of an evening wants the packets, not the pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Seconds after which sending ends when nobody says.
const USUAL_SECONDS: u32 = 60;

/// Replays a capture.
///
/// # Errors
/// When the capture or the profile cannot be read, or the card cannot be sent on.
pub fn replay(args: &ReplayArgs, catalog: &Catalog) -> Result<String, Failure> {
    let capture = read_capture(&args.file)?;
    let judges = judges(args.game.as_deref(), catalog)?;
    match &args.to_card {
        None => Ok(verdicts(&capture, &judges, args.json)),
        Some(card) => send(args, card, &capture, &judges),
    }
}

/// A profile by itself: profiles of a person may overlap, and each is asked.
struct Judge {
    id: String,
    rules: Ruleset,
}

fn judges(game: Option<&str>, catalog: &Catalog) -> Result<Vec<Judge>, Failure> {
    let one = |profile: &Profile| {
        let rules = compile(std::slice::from_ref(profile)).ok()?;
        Some(Judge { id: profile.id.0.clone(), rules })
    };
    let Some(game) = game else { return Ok(catalog.profiles.iter().filter_map(one).collect()) };
    let file = Path::new(game);
    if file.extension().is_some_and(|e| e == "toml") {
        check(catalog, file)?;
        let text = std::fs::read_to_string(file)?;
        let profile = check_text(game, &text).ok();
        return Ok(profile.as_ref().and_then(one).into_iter().collect());
    }
    Ok(one(find(catalog, game)?).into_iter().collect())
}

/// What one profile makes of a packet.
struct Verdict<'j> {
    id: &'j str,
    kind: RuleKind,
    title: String,
    join: Option<(Transport, u16)>,
}

fn asked<'j>(judges: &'j [Judge], view: &PacketView<'_>, class: Class) -> Vec<Verdict<'j>> {
    let ask = |judge: &'j Judge| {
        let rule = judge.rules.classify(view, class, Side::FromPeer)?;
        let told = judge.rules.describe(rule, view);
        let kind = judge.rules.facts(rule)?.kind;
        let join = told.as_ref().map(|t| (t.transport, t.port));
        Some(Verdict { id: &judge.id, kind, title: told.map(|t| t.title).unwrap_or_default(), join })
    };
    judges.iter().filter_map(ask).collect()
}

fn verdicts(capture: &Capture, judges: &[Judge], as_json: bool) -> String {
    let addressing = Addressing::of(capture);
    let start = capture.packets.first().map(|c| c.at).unwrap_or_default();
    let mut out = String::new();
    let mut tally: BTreeMap<String, usize> = BTreeMap::new();
    for one in &capture.packets {
        let Ok(view) = PacketView::parse(&one.packet) else { continue };
        let found = asked(judges, &view, addressing.class(view.dst));
        let seconds = one.at.saturating_sub(start).as_secs_f64();
        let games: Vec<String> = found.iter().map(shown).collect();
        if found.is_empty() {
            *tally.entry("nothing that a profile knows".to_owned()).or_default() += 1;
        }
        for verdict in &found {
            *tally.entry(format!("{} {}", verdict.id, verdict.kind.as_str())).or_default() += 1;
        }
        if as_json {
            let verdicts: Vec<_> = found.iter().map(as_object).collect();
            let line = json!({
                "number": one.number, "seconds": seconds, "from": view.source(), "to": view.destination(),
                "bytes": view.payload().len(), "verdicts": verdicts,
            });
            let _ = writeln!(out, "{line}");
        } else {
            let what = if games.is_empty() { "nothing".to_owned() } else { games.join(", ") };
            let _ = writeln!(
                out,
                "{:>5} {seconds:>9.3}  {} > {}  {} bytes: {what}",
                one.number,
                view.source(),
                view.destination(),
                view.payload().len()
            );
        }
    }
    if !as_json {
        let _ = writeln!(out, "\n{} UDP packets, {} other frames", capture.packets.len(), capture.other);
        for (what, times) in tally {
            let _ = writeln!(out, "{times:>7}  {what}");
        }
    }
    out
}

fn shown(verdict: &Verdict<'_>) -> String {
    let mut out = format!("{} {}", verdict.id, verdict.kind.as_str());
    if !verdict.title.is_empty() {
        let _ = write!(out, " \"{}\"", verdict.title);
    }
    if let Some((transport, port)) = verdict.join {
        let _ = write!(out, ", joined at {} {port}", named(transport));
    }
    out
}

fn as_object(verdict: &Verdict<'_>) -> serde_json::Value {
    let join = verdict.join.map(|(transport, port)| json!({"transport": named(transport), "port": port}));
    json!({"game": verdict.id, "kind": verdict.kind.as_str(), "title": verdict.title, "join": join})
}

const fn named(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

/// Sends what one side said to everybody or to groups.
fn send(args: &ReplayArgs, card: &str, capture: &Capture, judges: &[Judge]) -> Result<String, Failure> {
    let addressing = Addressing::of(capture);
    let many: Vec<(Duration, PacketView<'_>, Class)> = capture
        .packets
        .iter()
        .filter_map(|c| Some((c.at, PacketView::parse(&c.packet).ok()?)))
        .map(|(at, view)| (at, view, addressing.class(view.dst)))
        .filter(|(_, view, class)| *class != Class::Unicast && view.src.is_ipv4())
        .collect();
    let from = match &args.from {
        Some(text) => text.parse::<IpAddr>().map_err(|_| {
            let what = format!("`{}` is no address", text.escape_debug());
            Failure::usage("bad_address", what, "write it as the capture shows it, such as 10.77.1.1")
        })?,
        None => speaker(&many, judges).ok_or_else(nothing_to_send)?,
    };
    let start =
        many.iter().find(|(_, v, _)| v.src == from).map(|(at, ..)| *at).ok_or_else(nothing_to_send)?;
    let packets: Vec<Again> = many
        .iter()
        .filter(|(_, view, _)| view.src == from)
        .map(|(at, view, class)| Again {
            after: at.saturating_sub(start),
            source_port: view.src_port,
            to: view.destination(),
            directed: *class == Class::Directed,
            ttl: view.ttl,
            payload: view.payload().to_vec(),
        })
        .collect();
    let failed = |e: std::io::Error| {
        let what = format!("the card `{card}` cannot be sent on: {e}");
        Failure::new(
            "card_unusable",
            what,
            "`ip addr` shows the cards and whether they are up; sending by a certain card needs sudo on old systems",
        )
    };
    let mut sender = Sender::open(card, &packets).map_err(failed)?;
    let limit = Duration::from_secs(args.seconds.unwrap_or(USUAL_SECONDS).into());
    let sent = sender.send(&packets, args.times.unwrap_or(1), limit, LONGEST_PAUSE).map_err(failed)?;
    let mut out = format!("sent {sent} packets of {from} by {card}\n");
    for port in sender.other_ports() {
        let _ = writeln!(out, "port {port} is in use on this PC, so its packets came from another port");
    }
    Ok(out)
}

fn nothing_to_send() -> Failure {
    let what = "the capture holds no broadcast and no multicast over IPv4 of that side";
    Failure::new(
        "nothing_to_send",
        what,
        "only these are sent; `lanrage games replay FILE.pcap` shows what is in the capture",
    )
}

/// Who announces; else who says most.
fn speaker(many: &[(Duration, PacketView<'_>, Class)], judges: &[Judge]) -> Option<IpAddr> {
    let mut says: BTreeMap<IpAddr, (usize, usize)> = BTreeMap::new();
    for (_, view, class) in many {
        let announces = asked(judges, view, *class).iter().any(|v| v.kind == RuleKind::Announcement);
        let (announced, said) = says.entry(view.src).or_default();
        *announced += usize::from(announces);
        *said += 1;
    }
    says.into_iter().max_by_key(|(_, count)| *count).map(|(ip, _)| ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: &str) -> ReplayArgs {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name);
        ReplayArgs { file, ..ReplayArgs::default() }
    }

    #[test]
    fn each_packet_gets_its_verdict_and_a_tally_ends_it() {
        let told = replay(&args("doom.pcap"), &Catalog::new([])).unwrap();
        for part in [
            "doom query",
            "doom answer \"LANRIG\", joined at udp 2342",
            "      2  doom answer",
            "     24  nothing that a profile knows",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
        let json = replay(&ReplayArgs { json: true, ..args("doom.pcap") }, &Catalog::new([])).unwrap();
        let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!(first["verdicts"][0]["kind"], "query");
    }

    #[test]
    fn only_the_profile_that_was_asked_for_answers() {
        let told =
            replay(&ReplayArgs { game: Some("openttd".into()), ..args("doom.pcap") }, &Catalog::new([]))
                .unwrap();
        assert!(told.contains("     28  nothing") && !told.contains("doom query"), "{told}");
        assert!(
            replay(&ReplayArgs { game: Some("dom".into()), ..args("doom.pcap") }, &Catalog::new([])).is_err()
        );
    }

    #[test]
    fn the_side_that_is_sent_is_the_announcer_and_a_card_must_exist() {
        let capture = read_capture(&args("minecraft_java.pcap").file).unwrap();
        let judges = judges(None, &Catalog::new([])).unwrap();
        let many: Vec<_> = capture
            .packets
            .iter()
            .map(|c| (c.at, PacketView::parse(&c.packet).unwrap(), Class::Multicast))
            .collect();
        assert_eq!(speaker(&many, &judges).unwrap().to_string(), "10.77.1.1");
        let asked = ReplayArgs { to_card: Some("no-such-card".into()), ..args("minecraft_java.pcap") };
        let failure = replay(&asked, &Catalog::new([])).unwrap_err();
        assert!(failure.trouble.message.contains("no-such-card"), "{failure:?}");
    }
}
