//! `lanrage games record`: one game's search and the start of its joins, in a file.

use super::learn::{ports, write_file};
use crate::app::failure::Failure;
use crate::app::signals::Signals;
use crate::host::clock;
use crate::host::record::{ListenError, Listener, Program, names_of_this_pc};
use crate::rules::capture;
use crate::rules::learn::{Picker, Redacted, Timed, redact};
use crate::ui::cli::games_args::RecordArgs;
use crate::wire::packet::{PacketView, proto};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often the game's sockets are looked at. A search screen's socket lives for seconds.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Packets taken from the cards before the clock and the signals are asked again.
const AT_ONCE: usize = 256;
/// Lines of the summary.
const MOST_LINES: usize = 40;

/// Records until Ctrl-C, the time is over, or the file is as large as it may become.
///
/// # Errors
/// When the game is not named, the file is there already, or the cards cannot be listened on.
pub fn record(args: &RecordArgs) -> Result<String, Failure> {
    let named = args.ports.as_deref().map(ports).transpose()?.unwrap_or_default();
    let program = match (&args.game_process, &args.pid[..]) {
        (Some(name), _) => Some(Program::Named(name.clone())),
        (None, []) => None,
        (None, pids) => Some(Program::Pids(pids.to_vec())),
    };
    if named.is_empty() && program.is_none() {
        let what = "which game? Nothing else than its packets is recorded";
        return Err(Failure::usage(
            "no_game",
            what,
            "add `--game-process NAME`, `--pid N` or `--ports LIST`",
        ));
    }
    let file = args.out.clone().unwrap_or_else(|| PathBuf::from(usual_name(args)));
    if file.exists() && !args.force {
        let what = format!("{} is there already, and it was left alone", file.display());
        return Err(Failure::new(
            "file_exists",
            what,
            "name another `--out`, or write over it with `--force`",
        ));
    }
    let listener = Listener::open(&args.cards).map_err(|e| deaf(&e))?;
    let begun = format!(
        "listening on {}; search and join in the game now, then Ctrl-C\n",
        listener.cards().join(", ")
    );
    let _ = std::io::stderr().write_all(begun.as_bytes());
    let mut picker = Picker::default();
    picker.know(named.iter().copied());
    let heard = listen(listener, picker, program.as_ref(), args.seconds)?;
    let mut packets = heard.packets;
    let names = if args.redact { names_of_this_pc() } else { Vec::new() };
    let redacted = args.redact.then(|| redact(&mut packets, &names));
    write_file(&file, &capture::write(packets.iter().map(|(at, packet)| (*at, &packet[..]))))?;
    Ok(report(&file, &packets, redacted.as_ref(), heard.why, program.is_some() && !heard.saw_program))
}

fn usual_name(args: &RecordArgs) -> String {
    let stem = args.game_process.as_deref().unwrap_or("game");
    let stem: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{}.pcap", stem.trim_matches('-'))
}

fn deaf(error: &ListenError) -> Failure {
    let hint = match error {
        ListenError::NoRights(_) => {
            "run it with sudo, or give the right once: `sudo setcap cap_net_raw+ep $(which lanrage)`"
        }
        ListenError::NoCard(_) => "`ip link` shows the cards that there are",
        ListenError::NotOnThisSystem => {
            "record with Wireshark instead, and give its file to `lanrage games learn`"
        }
        ListenError::System(_) => "",
    };
    Failure::new("cannot_listen", error.to_string(), hint)
}

struct Heard {
    packets: Vec<Timed>,
    why: &'static str,
    saw_program: bool,
}

fn listen(
    mut listener: Listener,
    mut picker: Picker,
    program: Option<&Program>,
    seconds: Option<u32>,
) -> Result<Heard, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let end = seconds.map(|s| Instant::now() + Duration::from_secs(s.into()));
        let (mut looked, mut saw_program) = (None::<Instant>, false);
        let why = loop {
            if let (Some(program), true) = (program, looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY)) {
                let open = program.ports();
                saw_program |= open.is_some();
                picker.know(open.unwrap_or_default());
                looked = Some(Instant::now());
            }
            let mut heard = 0;
            while let Some(packet) = listener.hear().filter(|_| heard < AT_ONCE) {
                picker.offer(clock::unix(), packet);
                heard += 1;
            }
            if picker.is_full() {
                break "the recording is as large as it may become";
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                break "the time is over";
            }
            let pause = Duration::from_millis(if heard > 0 { 0 } else { 5 });
            tokio::select! {
                () = signals.next() => break "it was ended",
                () = tokio::time::sleep(pause) => {}
            }
        };
        Ok(Heard { packets: picker.finish(), why, saw_program })
    })
}

fn report(
    file: &Path,
    packets: &[Timed],
    redacted: Option<&Redacted>,
    why: &str,
    no_program: bool,
) -> String {
    let mut out = format!("{why}; wrote {} packets to {}\n", packets.len(), file.display());
    let mut flows: BTreeMap<String, usize> = BTreeMap::new();
    for (_, packet) in packets {
        let Ok(view) = PacketView::parse(packet) else { continue };
        let what = if view.proto == proto::TCP { "tcp, asks for a connection" } else { "udp" };
        *flows.entry(format!("{} > {}  {what}", view.source(), view.destination())).or_default() += 1;
    }
    let more = flows.len().saturating_sub(MOST_LINES);
    for (flow, times) in flows.into_iter().take(MOST_LINES) {
        let _ = writeln!(out, "{times:>7}  {flow}");
    }
    if more > 0 {
        let _ = writeln!(out, "         and {more} more");
    }
    if no_program {
        out.push_str("no such program was running: `ps -e` shows the names of programs\n");
    } else if packets.is_empty() {
        out.push_str("nothing of the game was heard: open its LAN list while recording, and check the card (`--cards`)\n");
    }
    if let Some(redacted) = redacted {
        let _ = writeln!(out, "redacted: {} addresses, names {} times", redacted.addresses, redacted.names);
        for left in &redacted.left {
            let _ = writeln!(out, "not redacted: {left}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_needs_a_game_and_writes_over_nothing() {
        let failure = record(&RecordArgs::default()).unwrap_err();
        assert_eq!((failure.exit, failure.trouble.code.as_str()), (2, "no_game"));
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("mine.pcap");
        std::fs::write(&out, "mine").unwrap();
        let args = RecordArgs { ports: Some("7".into()), out: Some(out.clone()), ..RecordArgs::default() };
        assert!(record(&args).unwrap_err().trouble.message.contains("there already"));
        assert_eq!(std::fs::read(out).unwrap(), b"mine");
        let name = RecordArgs { game_process: Some("frozen-bubble".into()), ..RecordArgs::default() };
        assert_eq!(usual_name(&name), "frozen-bubble.pcap");
    }
}
