//! Sentences for people. Names and titles come from other computers: nothing in them may reach the terminal as a control sequence.

use crate::model::id::{PeerId, ProfileId};
use crate::model::limits;
use crate::model::status::{Event, Mode, PathKind, PluginStatus, Status, Trouble};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Characters of a title that are shown; games' own lists show fewer.
const TITLE_CHARS: usize = 40;
/// Characters of a map's name that are shown.
pub(super) const MAP_CHARS: usize = 24;
/// Characters of a version that are shown.
pub(super) const VERSION_CHARS: usize = 16;
/// Names that are remembered: peers come and go, and a party of 64 should never reach this.
const NAMES: usize = 16 * limits::PEERS;

/// Text of others, made harmless: no control characters, nothing that turns the writing direction, and not too long.
pub(super) fn clean(text: &str, chars: usize) -> String {
    let harmless = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut kept = text.chars().filter(harmless);
    let mut out: String = kept.by_ref().take(chars).collect();
    if kept.next().is_some() {
        out.pop();
        out.push('…');
    }
    out
}

/// What peers are called, as far as events have told.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<PeerId, String>);

impl Names {
    /// Learns from an event.
    pub(super) fn note(&mut self, event: &Event) {
        if let Event::PeerJoined { peer, name, .. } = event
            && (self.0.len() < NAMES || self.0.contains_key(peer))
        {
            self.0.insert(*peer, clean(name, limits::NAME_CHARS));
        }
    }

    /// The name, or the beginning of the id.
    pub(super) fn of(&self, peer: PeerId) -> String {
        match self.0.get(&peer) {
            Some(name) if !name.trim().is_empty() => name.clone(),
            Some(_) | None => peer.to_string().chars().take(6).collect(),
        }
    }
}

/// One line for an event; `None` when it says nothing that a person needs.
pub(super) fn sentence(event: &Event, names: &Names) -> Option<String> {
    Some(match event {
        Event::Ready { name, address, invite, control, .. } => format!(
            "the party is open: you are {}, {address}, found through {control}; invite: {invite}",
            clean(name, limits::NAME_CHARS)
        ),
        Event::Mode { mode, why, hint } => mode_line(*mode, why, hint),
        Event::Nat { r#type, public, .. } => {
            if r#type == "unknown" {
                return None;
            }
            let seen = public.map_or(String::new(), |p| format!(", seen from outside as {p}"));
            format!("your router is of type {type}{seen}")
        }
        Event::PeerJoined { peer, address, .. } => format!("{} is here: {address}", names.of(*peer)),
        Event::Path { peer, kind, remote, rtt_ms, why } => {
            format!(
                "{} is reached {} ({remote}), {}: {}",
                names.of(*peer),
                way(*kind),
                round_trip(*rtt_ms),
                clean(why, 200)
            )
        }
        Event::GameFound {
            game,
            peer,
            title,
            address,
            by: _,
            local,
            shared,
            map,
            version,
            players,
            max_players,
            rtt_ms,
            changed,
        } => {
            let name = game_name(&names.of(*peer), game, title);
            let (map, version) = (clean(map, MAP_CHARS), clean(version, VERSION_CHARS));
            let trip = rtt_ms.map(round_trip).unwrap_or_default();
            let facts = dotted(&[&map, &version, &seats(*players, *max_players), &trip]);
            if *changed {
                format!("{name} has changed{facts}")
            } else {
                found(&(name + &facts), *address, *local, shared)
            }
        }
        Event::GameLost { game, peer, title, why } => {
            format!("{} is gone: {}", game_name(&names.of(*peer), game, title), clean(why, 80))
        }
        Event::PeerLeft { peer, why } => format!("{} is gone: {}", names.of(*peer), clean(why, 80)),
        Event::Plugin(plugin) => plugin_line(plugin),
        Event::Reloaded { what, replayed } => {
            let lines = replayed.iter().map(|line| format!("\n  {}", clean(line, 200)));
            format!("reloaded: {}{}", clean(what, 200), lines.collect::<String>())
        }
        Event::Warning(trouble) => format!("warning: {}", trouble_line(trouble)),
        Event::Error(trouble) => format!("error: {}", trouble_line(trouble)),
    })
}

/// How games' packets travel, and why.
fn mode_line(mode: Mode, why: &str, hint: &str) -> String {
    let how = match mode {
        Mode::Lan => "lan mode: a network device carries the games' packets",
        Mode::Proxy => "proxy mode: ports of this computer stand for the others' games",
    };
    let hint = if hint.is_empty() { String::new() } else { format!("; {}", clean(hint, 600)) };
    format!("{how} ({}){hint}", clean(why, 300))
}

/// A plugin, whether it works, and what it may do.
pub(super) fn plugin_line(plugin: &PluginStatus) -> String {
    let from = match plugin.origin.as_str() {
        "shipped" => " (comes with lanrage)",
        "development" => " (in development)",
        _ => "",
    };
    let name = format!("plugin {} {}", plugin.id, clean(&plugin.version, 40));
    match (&plugin.why, plugin.state.as_str()) {
        (Some(why), state) => {
            format!("{}{from} is {}: {}", name.trim_end(), clean(state, 20), clean(why, 300))
        }
        (None, _) => format!("{}{from} {}", name.trim_end(), clean(&plugin.may.join("; "), 600)),
    }
}

/// How a peer is reached.
pub(super) const fn way(kind: PathKind) -> &'static str {
    match kind {
        PathKind::Lan => "over your own network",
        PathKind::Direct => "directly",
        PathKind::Relay => "through a relay",
    }
}

/// `Ana's world «LANRIG»`.
pub(super) fn game_name(owner: &str, game: &ProfileId, title: &str) -> String {
    let world = ["minecraft", "terraria"].iter().any(|w| game.0.starts_with(w));
    let what = if world { "world" } else { "game" };
    let title = clean(title, TITLE_CHARS);
    if title.trim().is_empty() {
        format!("{owner}'s {game} {what}")
    } else {
        format!("{owner}'s {what} «{title}»")
    }
}

/// ` · de_dust2 · 3/8 players · 24 ms`: what is known of it.
pub(super) fn dotted(facts: &[&str]) -> String {
    facts.iter().filter(|fact| !fact.trim().is_empty()).map(|fact| format!(" · {fact}")).collect()
}

/// `3/8 players`, as far as it is known.
pub(super) fn seats(players: Option<u32>, most: Option<u32>) -> String {
    match (players, most) {
        (Some(1), None) => "1 player".to_owned(),
        (Some(players), None) => format!("{players} players"),
        (Some(players), Some(most)) => format!("{players}/{most} players"),
        (None, Some(most)) => format!("up to {most} players"),
        (None, None) => String::new(),
    }
}

/// Where a game can be joined.
pub(super) fn found(
    name: &str,
    address: SocketAddr,
    local: Option<SocketAddr>,
    shared: &[SocketAddr],
) -> String {
    let here = match local {
        Some(local) => format!("{name} — in your game's LAN list now, or join {local}"),
        None => format!("{name} — in your game's LAN list now, {address}"),
    };
    if shared.is_empty() { here } else { format!("{here}; from your network: {}", addresses(shared)) }
}

/// Addresses in a row.
pub(super) fn addresses(all: &[SocketAddr]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A round trip as people read it.
pub(super) fn round_trip(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// A time as people say it.
pub(super) fn lasting(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{seconds:.0} s")
    } else if seconds < 5400.0 {
        format!("{:.0} min", seconds / 60.0)
    } else {
        format!("{:.1} h", seconds / 3600.0)
    }
}

/// So long a path by relay has lasted when its reason is told: a direct one is usually there by then.
const SETTLED: f64 = 5.0;

/// What was told of why peers stay on a relay: each reason once.
#[derive(Debug, Default)]
pub(super) struct Explained(BTreeSet<(PeerId, String)>);

impl Explained {
    /// Sentences about those whose reason was not told yet.
    pub(super) fn news(&mut self, status: &Status) -> Vec<String> {
        let mut out = Vec::new();
        for peer in &status.peers {
            let settled = peer.path.as_ref().is_some_and(|p| p.kind == PathKind::Relay && p.since >= SETTLED);
            // While something is being tried there is nothing to explain.
            let trying = |code: &str| matches!(code, "searching" | "punching" | "no_address");
            let Some(reason) = peer.advice.first().filter(|r| settled && !trying(&r.code)) else { continue };
            if self.0.len() < NAMES && self.0.insert((peer.peer, reason.code.clone())) {
                let name = clean(&peer.name, limits::NAME_CHARS);
                out.push(format!("{name} stays on a relay: {}", trouble_line(reason)));
            }
        }
        out
    }
}

/// What happened and what to try, in one line.
pub(super) fn trouble_line(trouble: &Trouble) -> String {
    let message = clean(&trouble.message, 600);
    if trouble.hint.is_empty() { message } else { format!("{message}; try: {}", clean(&trouble.hint, 600)) }
}

/// Plain words for a counter of `status`.
pub(super) fn counter(name: &str) -> Option<&'static str> {
    COUNTERS.iter().find(|(known, _)| *known == name).map(|(_, words)| *words)
}

/// Every counter of the engine; a test of the program compares the two lists.
pub(super) const COUNTERS: &[(&str, &str)] = &[
    ("tun_in", "packets from your games to others"),
    ("lan_out", "packets from others to your games"),
    ("wan_in", "datagrams received"),
    ("wan_out", "datagrams sent"),
    ("captured", "searches and announcements of your games heard"),
    ("knocks_sent", "knocks at members' addresses"),
    ("knocks_answered", "knocks of members answered"),
    ("forwarded", "packets passed on between two others"),
    ("measured", "packets of others' measurements answered"),
    ("records_passed", "records of players told to others"),
    ("discovery_sent", "of them passed on (once for each peer)"),
    ("discovery_injected", "searches and announcements of others shown to your games"),
    ("replayed", "announcements repeated for peers that came late"),
    ("repeated", "announcements lost on the way and said again to your games"),
    ("rewritten", "announcements whose address was adapted"),
    ("handshakes", "encrypted sessions begun"),
    ("pings", "paths measured"),
    ("probes", "ports of routers tried"),
    ("doubled", "packets sent by two ways while a path was in doubt"),
    ("resent", "packets sent once more by another way"),
    ("path_changes", "times a better or the only path was taken"),
    ("plugin_calls", "questions to plugins"),
    ("plugin_answers", "answers of plugins that came in time"),
    ("plugin_replaced", "packets that a plugin changed"),
    ("plugin_taught", "packets for which an earlier answer still holds"),
    ("plugin_defaults", "packets that went on without a plugin's answer"),
    ("plugin_late", "answers of plugins that were waited for in vain"),
    ("plugin_busy", "questions not asked because there were too many"),
    ("plugin_faults", "mistakes of plugins"),
    ("plugin_sends", "packets that plugins sent"),
    ("plugin_opens", "ports that plugins opened for a while"),
    ("plugin_refused", "wishes of plugins beyond what they may do"),
    ("plugin_pace", "packets that plugins wanted to send beyond their pace"),
    ("drop.plugin", "packets that a plugin dropped"),
    ("drop.plugin_no_answer", "packets dropped because their plugin gave no answer"),
    ("drop.malformed", "damaged packets"),
    ("drop.too_big", "packets larger than the tunnel carries"),
    ("drop.not_a_game", "broadcasts that belong to none of the games you run"),
    ("drop.echo_of_own", "echoes of what lanrage itself handed to your network"),
    ("drop.twin", "announcements heard on a second network card"),
    ("drop.duplicate", "packets that came twice"),
    ("drop.pace", "broadcasts beyond the game's usual rhythm"),
    ("drop.port_closed_in", "attempts of others to reach a port that no game uses"),
    ("drop.port_closed_out", "packets to a port of others that no game uses"),
    ("drop.forged_source", "packets with a forged sender"),
    ("drop.not_for_us", "packets that were meant for somebody else"),
    ("drop.no_such_peer", "packets to an address that nobody in the party has"),
    ("drop.no_path", "packets to a peer that could not be reached"),
    ("drop.unknown_datagram", "datagrams that lanrage does not know"),
    ("drop.refused", "datagrams that the encryption refused (wrong key, repeated or damaged)"),
    ("drop.bad_frame", "messages that could not be read"),
    ("drop.hop_limit", "broadcasts that had been passed on too often"),
    ("drop.wan_full", "packets for which your connection was too slow"),
    ("drop.lan_full", "packets that your games did not take fast enough"),
    ("drop.heard_natively", "announcements that the peer hears on its own network"),
    ("drop.rewrite_failed", "announcements in a form that the game's profile does not know"),
    ("drop.bad_record", "claims of peers that were not believed"),
    ("drop.forward_refused", "packets for others that this computer does not pass on"),
    ("drop.forward_pace", "packets for others beyond what is passed on"),
    ("drop.measure_refused", "packets of measurements that were not agreed to"),
    ("drop.bad_knock", "knocks of strangers"),
    ("drop.knock_flood", "knocks beyond what one second allows"),
    ("drop.flood", "connection attempts beyond what one second allows"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::JoinedBy;

    #[test]
    fn text_of_others_cannot_play_tricks() {
        assert_eq!(clean("a\u{1b}[2Jb\r\n\u{202e}c", 40), "a[2Jbc");
        assert_eq!(clean("abcdef", 4), "abc…");
        assert_eq!(clean("äöü", 3), "äöü");
    }

    #[test]
    fn a_found_game_reads_like_the_players_say_it() {
        let ana = PeerId([1; 10]);
        let mut names = Names::default();
        names.note(&Event::PeerJoined { peer: ana, name: "Ana".into(), address: [10, 83, 7, 2].into() });
        let mut event = Event::GameFound {
            game: "minecraft-java".into(),
            peer: ana,
            title: "LANRIG".into(),
            address: "10.83.7.2:25599".parse().unwrap(),
            by: JoinedBy::Tcp,
            local: None,
            shared: Vec::new(),
            map: String::new(),
            version: String::new(),
            players: None,
            max_players: None,
            rtt_ms: None,
            changed: false,
        };
        assert_eq!(
            sentence(&event, &names).unwrap(),
            "Ana's world «LANRIG» — in your game's LAN list now, 10.83.7.2:25599"
        );
        if let Event::GameFound { peer, title, .. } = &mut event {
            *peer = PeerId([0; 10]);
            title.clear();
        }
        assert_eq!(
            sentence(&event, &names).unwrap(),
            "000000's minecraft-java world — in your game's LAN list now, 10.83.7.2:25599"
        );
    }

    #[test]
    fn what_is_known_of_a_game_stands_beside_its_name() {
        let ana = PeerId([1; 10]);
        let mut names = Names::default();
        names.note(&Event::PeerJoined { peer: ana, name: "Ana".into(), address: [10, 83, 7, 2].into() });
        let game = |changed| Event::GameFound {
            game: "openarena".into(),
            peer: ana,
            title: "Arena".into(),
            address: "10.83.7.2:27960".parse().unwrap(),
            by: JoinedBy::Tcp,
            local: None,
            shared: Vec::new(),
            map: "oa_\u{1b}dm1".into(),
            version: String::new(),
            players: Some(3),
            max_players: Some(8),
            rtt_ms: Some(23.6),
            changed,
        };
        assert_eq!(
            sentence(&game(false), &names).unwrap(),
            "Ana's game «Arena» · oa_dm1 · 3/8 players · 24 ms — in your game's LAN list now, 10.83.7.2:27960"
        );
        assert_eq!(
            sentence(&game(true), &names).unwrap(),
            "Ana's game «Arena» has changed · oa_dm1 · 3/8 players · 24 ms"
        );
        assert_eq!(seats(Some(1), None), "1 player");
        assert_eq!(seats(None, Some(8)), "up to 8 players");
    }

    #[test]
    fn the_mode_is_told_with_its_reason() {
        let event = Event::Mode { mode: Mode::Proxy, why: "no rights".into(), hint: "get some".into() };
        assert_eq!(
            sentence(&event, &Names::default()).unwrap(),
            "proxy mode: ports of this computer stand for the others' games (no rights); get some"
        );
        let event = Event::Mode { mode: Mode::Lan, why: "as asked for".into(), hint: String::new() };
        assert_eq!(
            sentence(&event, &Names::default()).unwrap(),
            "lan mode: a network device carries the games' packets (as asked for)"
        );
    }

    #[test]
    fn no_counter_is_described_twice() {
        for (name, _) in COUNTERS {
            assert_eq!(COUNTERS.iter().filter(|(n, _)| n == name).count(), 1, "{name}");
        }
        assert_eq!(counter("drop.twin"), Some("announcements heard on a second network card"));
        assert_eq!(counter("drop.new_one"), None);
    }
}
