//! `lanrage games learn`: captures in, a draft of a profile and its samples out, and a frank word on both.

use crate::app::failure::Failure;
use crate::rules::capture::{self, Capture};
use crate::rules::check::check_text;
use crate::rules::compile::compile;
use crate::rules::learn::{Draft, NothingLearned, Wish, learn as draft_of, prove};
use crate::rules::sample;
use crate::ui::cli::games_args::LearnArgs;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A capture of more than this is not read; `games record` stops at half of it.
const CAPTURE_BYTES: u64 = 64 << 20;
/// Captures of one draft.
const CAPTURES: usize = 16;
/// The longest id of a profile.
const ID_CHARS: usize = 40;

/// Drafts a profile, writes it, and holds it against its own samples.
///
/// # Errors
/// When a capture cannot be read, holds no discovery, or when there is a draft already.
pub fn learn(args: &LearnArgs) -> Result<String, Failure> {
    if args.files.len() > CAPTURES {
        let what = format!("{} captures; at most {CAPTURES} can be read at once", args.files.len());
        return Err(Failure::usage(
            "too_many_captures",
            what,
            "choose those with different servers and names",
        ));
    }
    let captures: Vec<Capture> = args.files.iter().map(|f| read_capture(f)).collect::<Result<_, _>>()?;
    let wish = wish(args)?;
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("."));
    let files = [out.join(format!("{}.toml", wish.id)), out.join(format!("{}.samples", wish.id))];
    if let Some(there) = files.iter().find(|f| f.exists() && !args.force) {
        let what = format!("{} is there already, and it was left alone", there.display());
        return Err(Failure::new(
            "draft_exists",
            what,
            "name another `--id` or `--out`, or write over it with `--force`",
        ));
    }
    let draft = draft_of(&captures, &wish).map_err(|e| nothing(&e))?;
    for (file, text) in files.iter().zip([&draft.profile, &draft.samples]) {
        write_file(file, text.as_bytes())?;
    }
    for (file, capture) in args.files.iter().zip(&captures) {
        if let Some(at) = capture.damaged_at {
            tracing::warn!("{} ends in the middle, at byte {at}; what came before was used", file.display());
        }
    }
    Ok(report(&draft, &files, &wish))
}

fn nothing(why: &NothingLearned) -> Failure {
    let hint = match why {
        NothingLearned::NoDiscovery(_) => {
            "start recording before you open the game's LAN list, and record on the PC that searches; `--ports` may leave too much out"
        }
        NothingLearned::Broken(_) => {
            "please report this, with the capture if you can (`games record --redact`)"
        }
    };
    Failure::new("nothing_learned", why.to_string(), hint)
}

fn wish(args: &LearnArgs) -> Result<Wish, Failure> {
    let stem = args.files.first().and_then(|f| f.file_stem());
    let stem = stem.map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    let id = args.id.clone().unwrap_or_else(|| id_of(&stem));
    let good = !id.is_empty() && id == id_of(&id);
    if !good {
        let what = format!("`{}` cannot be a profile's id", id.escape_debug());
        return Err(Failure::usage(
            "bad_id",
            what,
            format!("use up to {ID_CHARS} of a-z, 0-9 and `-`: `--id {}`", id_of("my-game")),
        ));
    }
    let names: Vec<String> = args
        .files
        .iter()
        .map(|f| f.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default())
        .collect();
    Ok(Wish {
        name: args.name.clone().unwrap_or_else(|| id.clone()),
        id,
        file: names.join(", "),
        title: args.title.clone(),
        ports: args.ports.as_deref().map(ports).transpose()?.unwrap_or_default(),
    })
}

/// A file's name as an id.
fn id_of(text: &str) -> String {
    let usable = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let id: String = text.chars().map(usable).collect();
    id.split('-')
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
        .chars()
        .take(ID_CHARS)
        .collect()
}

/// `6112`, `6112-6119`, or several with commas.
pub(super) fn ports(text: &str) -> Result<Vec<u16>, Failure> {
    let mut all = Vec::new();
    for piece in text.split(',').map(str::trim) {
        let (low, high) = piece.split_once('-').unwrap_or((piece, piece));
        match (low.trim().parse::<u16>(), high.trim().parse::<u16>()) {
            (Ok(low), Ok(high)) if 0 < low && low <= high => all.extend(low..=high),
            _ => {
                let what = format!("`{}` is no port and no range of ports", piece.escape_debug());
                return Err(Failure::usage(
                    "bad_ports",
                    what,
                    "write 6112, or 6112-6119, or several with commas",
                ));
            }
        }
    }
    Ok(all)
}

/// Reads a capture file.
pub(super) fn read_capture(file: &Path) -> Result<Capture, Failure> {
    let failed = |why: String| {
        let what = format!("{} cannot be read: {why}", file.display());
        Failure::new(
            "capture_unreadable",
            what,
            "name a file of tcpdump, Wireshark or `lanrage games record`",
        )
    };
    let open = std::fs::File::open(file).map_err(|e| failed(e.to_string()))?;
    if open.metadata().is_ok_and(|m| !m.is_file()) {
        return Err(failed("it is no file".to_owned()));
    }
    let mut bytes = Vec::new();
    open.take(CAPTURE_BYTES + 1).read_to_end(&mut bytes).map_err(|e| failed(e.to_string()))?;
    if bytes.len() as u64 > CAPTURE_BYTES {
        return Err(failed(format!(
            "it has more than {} MiB; record only the search and the join",
            CAPTURE_BYTES >> 20
        )));
    }
    capture::read(&bytes).map_err(|e| failed(e.to_string()))
}

/// Writes a file whole: a crash leaves the old one or the new one.
pub(super) fn write_file(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |e: std::io::Error| {
        let what = format!("{} cannot be written: {e}", file.display());
        Failure::new("unwritable", what, "name a folder that you may write to")
    };
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, file)).map_err(failed)
}

fn report(draft: &Draft, files: &[PathBuf; 2], wish: &Wish) -> String {
    let [profile, samples] = files;
    let checked = check_text(&profile.display().to_string(), &draft.profile);
    let rules = checked.and_then(|profile| compile(&[profile]));
    let read = sample::parse(&samples.display().to_string(), &draft.samples);
    let mut out = format!("wrote {} and {}\n", profile.display(), samples.display());
    match (&rules, &read) {
        (Ok(rules), Ok(read)) => {
            let wrong = prove(rules, read);
            let _ = writeln!(out, "check: the profile is fine");
            let _ =
                writeln!(out, "samples: {} of {} hold", read.len() - wrong.len().min(read.len()), read.len());
            wrong.iter().for_each(|w| out.push_str(&format!("  {w}\n")));
        }
        (Err(wrong), _) => wrong.iter().for_each(|w| out.push_str(&format!("check: {w}\n"))),
        (_, Err(wrong)) => out.push_str(&format!("samples: {wrong}\n")),
    }
    let proof = &draft.proof;
    let _ = writeln!(
        out,
        "capture: {} of {} discovery packets are taken for what they are, {} of {} others are left alone",
        proof.right,
        proof.right + proof.wrong,
        proof.left_alone,
        proof.left_alone + proof.mistaken,
    );
    section(&mut out, "Seen in the packets", &draft.sure);
    section(&mut out, "Guessed; look at these", &draft.guesses);
    section(&mut out, "Not looked at (packets)", &draft.left_out);
    let next = [
        format!(
            "read {}, correct the guesses, then `lanrage games check {}`",
            profile.display(),
            profile.display()
        ),
        "put it into the folder `games` of lanrage's data folder, on every PC (docs/learning.md)".to_owned(),
        format!("lanrage run --game {}", wish.id),
    ];
    section(&mut out, "Next", &next);
    out
}

fn section(out: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{title}");
    for line in lines {
        let _ = writeln!(out, "  {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(name: &str, out: &Path) -> LearnArgs {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name);
        LearnArgs { files: vec![file], out: Some(out.to_owned()), ..LearnArgs::default() }
    }

    #[test]
    fn a_capture_becomes_two_files_and_a_report_and_nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let told = learn(&args("minecraft_java.pcap", dir.path())).unwrap();
        for part in [
            "minecraft-java.toml",
            "check: the profile is fine",
            "capture: 3 of 3",
            "Guessed; look at these",
            "Next",
        ] {
            assert!(told.contains(part), "{part}\n{told}");
        }
        let shipped = crate::rules::shipped::Catalog::new([]);
        let drafted = dir.path().join("minecraft-java.toml");
        assert!(super::super::check(&shipped, &drafted).unwrap().contains("is fine"));
        std::fs::write(dir.path().join("minecraft-java.toml"), "mine").unwrap();
        let failure = learn(&args("minecraft_java.pcap", dir.path())).unwrap_err();
        assert!(failure.trouble.message.contains("there already"), "{failure:?}");
        assert_eq!(std::fs::read_to_string(dir.path().join("minecraft-java.toml")).unwrap(), "mine");
    }

    #[test]
    fn wrong_files_ids_and_ports_say_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text.pcap");
        std::fs::write(&text, "no capture").unwrap();
        let failure = read_capture(&text).unwrap_err();
        assert!(failure.trouble.message.contains("not a capture"), "{failure:?}");
        assert!(read_capture(dir.path()).is_err() && read_capture(Path::new("/nowhere.pcap")).is_err());
        let bad = LearnArgs { id: Some("My Game".into()), ..args("doom.pcap", dir.path()) };
        assert_eq!(learn(&bad).unwrap_err().exit, 2);
        assert_eq!(ports("6112-6114, 7").unwrap(), [6112, 6113, 6114, 7]);
        for wrong in ["", "0", "9-7", "70000", "x", "1-"] {
            assert_eq!(ports(wrong).unwrap_err().exit, 2, "{wrong}");
        }
        assert_eq!(id_of("My Game (2)"), "my-game-2");
    }
}
