//! `lanrage plugin new`: a folder with a plugin that works, to be changed into another one.

use super::told::wrong_folder;
use crate::app::failure::Failure;
use crate::model::script::API;
use crate::plugin::manifest::check_manifest;
use crate::plugin::stubs::stubs;
use crate::rules::check::check_text;
use crate::rules::ports::LOWEST;
use crate::ui::cli::plugin_args::NewPluginArgs;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// The port of a game that is made up: one that no game is known for.
const PORT: &str = "27999";
/// Characters of an id, as in profiles.
const ID_CHARS: usize = 40;
/// Names that Windows keeps for devices.
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];

/// Makes the folder; what to tell.
///
/// # Errors
/// When a word is no id, a port no port, or the folder is there already.
pub(super) fn run(args: &NewPluginArgs) -> Result<String, Failure> {
    let id = id(&args.id)?;
    let game = args.game.clone().unwrap_or_else(|| title(id));
    let ports = ports(args.udp.as_deref().unwrap_or(PORT))?;
    if game.trim().is_empty() || game.chars().any(char::is_control) {
        let what = format!("`{}` is no name for a game", game.escape_debug());
        return Err(Failure::usage("bad_name", what, "use one line of text, such as --game \"Old Shooter\""));
    }
    let files = files(id, &game, &ports, args.kind == "query");
    for (name, text) in &files {
        let wrong = match *name {
            "plugin.toml" => check_manifest(name, text).err(),
            "profile.toml" => check_text(name, text).err(),
            _ => None,
        };
        // What was typed goes into these two files; whatever is wrong with it is told in their words.
        wrong.map_or(Ok(()), |wrong| Err(wrong_folder(&wrong)))?;
    }
    let dir = args.dir.clone().unwrap_or_default().join(id);
    write_all(&dir, &files)?;
    let shown = shown(&dir);
    let mut out = format!("made {shown}: {game}, {} files\n", files.len());
    for (name, what) in WHAT {
        let _ = writeln!(out, "  {name:<22} {what}");
    }
    let _ = write!(
        out,
        "\nnext:\n  lanrage plugin test {shown}\n  lanrage plugin check {shown}\n  \
         lanrage run --game {id} --dev --plugin-dir {shown}\n"
    );
    Ok(out)
}

/// What the files are for; those for editors in one line.
const WHAT: [(&str, &str); 6] = [
    ("plugin.toml", "who it is and what it may do"),
    ("main.luau", "the code; works, and says what to change"),
    ("test.luau", "its test"),
    ("profile.toml", "what the game looks like on a LAN"),
    ("samples/first.samples", "packets, and what must become of them"),
    ("types/, .vscode/, …", "for editors: completion and types"),
];

fn files(id: &str, game: &str, ports: &Ports, query: bool) -> Vec<(&'static str, String)> {
    let (hook, kind, sample, when) = if query {
        ("on_answer", "answer", "I am", "A server answers.")
    } else {
        ("on_announcement", "announcement", "open game", "A server says it is there.")
    };
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let filled = |text: &str| {
        text.replace("@ID@", id)
            .replace("@NAME@", &quoted(game))
            .replace("@ABOUT@", &quoted(&format!("Finds games of {game}")))
            .replace("@API@", &API.to_string())
            .replace("@PORTS@", &ports.toml)
            .replace("@PORT@", &ports.first.to_string())
            .replace("@HOOK@", hook)
            .replace("@KIND@", kind)
            .replace("@SAMPLE@", sample)
            .replace("@WHEN@", when)
            .replace("@GAME@", game)
    };
    let (profile, samples) = if query {
        (include_str!("template/query.toml"), include_str!("template/query.samples"))
    } else {
        (include_str!("template/announcement.toml"), include_str!("template/announcement.samples"))
    };
    let mut files: Vec<(&'static str, String)> = [
        ("plugin.toml", include_str!("template/plugin.toml")),
        ("main.luau", include_str!("template/main.luau")),
        ("test.luau", include_str!("template/test.luau")),
        ("profile.toml", profile),
        ("samples/first.samples", samples),
        ("types/test.d.luau", include_str!("template/test.d.luau")),
        (".luaurc", include_str!("template/luaurc.json")),
        (".luarc.json", include_str!("template/luarc.json")),
        (".vscode/settings.json", include_str!("template/vscode.json")),
        ("selene.toml", include_str!("template/selene.toml")),
    ]
    .into_iter()
    .map(|(name, text)| (name, filled(text)))
    .collect();
    for (name, text) in stubs() {
        let place = match name {
            "lanrage.d.luau" => "types/lanrage.d.luau",
            "lanrage.lua" => "types/lanrage.lua",
            other => other,
        };
        files.push((place, text));
    }
    files
}

/// All or nothing, and never over something that is there.
fn write_all(dir: &Path, files: &[(&'static str, String)]) -> Result<(), Failure> {
    let failed = |path: &Path, e: std::io::Error| {
        let what = format!("{} cannot be written: {e}", path.display());
        Failure::new("plugin_unwritable", what, "name a folder that you may write to with --dir")
    };
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        std::fs::create_dir_all(parent).map_err(|e| failed(parent, e))?;
    }
    if let Err(e) = std::fs::create_dir(dir) {
        if e.kind() != std::io::ErrorKind::AlreadyExists {
            return Err(failed(dir, e));
        }
        let what = format!("{} is there already; nothing was changed", dir.display());
        return Err(Failure::new("plugin_there", what, "choose another id, or remove the folder first"));
    }
    for (name, text) in files {
        let path: PathBuf = name.split('/').fold(dir.to_path_buf(), |path, part| path.join(part));
        let folder = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, text)).map_err(|e| {
            // The folder is ours: it was not there before.
            let _ = std::fs::remove_dir_all(dir);
            failed(&path, e)
        })?;
    }
    Ok(())
}

fn id(typed: &str) -> Result<&str, Failure> {
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let device = DEVICES.contains(&typed)
        || (typed.len() == 4 && (typed.starts_with("com") || typed.starts_with("lpt")));
    let good = (1..=ID_CHARS).contains(&typed.len())
        && typed.bytes().all(letters)
        && !typed.starts_with('-')
        && !device;
    if good {
        return Ok(typed);
    }
    let lower = typed.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let better = lower.trim_matches('-');
    let hint = if device || better.is_empty() || better == typed {
        "use another word, such as `old-shooter`".to_owned()
    } else {
        format!("use up to {ID_CHARS} of the characters a-z, 0-9 and `-`, such as `{better}`")
    };
    let what = format!("`{}` cannot be the id of a plugin", typed.escape_debug());
    Err(Failure::usage("bad_id", what, hint))
}

/// `old-shooter` as people would write it.
fn title(id: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    };
    id.split('-').filter(|word| !word.is_empty()).map(capital).collect::<Vec<String>>().join(" ")
}

/// The ports as TOML has them, and the first.
struct Ports {
    toml: String,
    first: u16,
}

fn ports(typed: &str) -> Result<Ports, Failure> {
    let bad = |part: &str| {
        let what = format!("`{}` is no port of a game", part.escape_debug());
        let hint = format!(
            "use ports from {LOWEST} to 65535, such as --udp 6112, --udp 6112-6119 or --udp 6112,6200"
        );
        Failure::usage("bad_port", what, hint)
    };
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port >= LOWEST);
    let mut toml = Vec::new();
    let mut first = None;
    for part in typed.split(',').map(str::trim) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (Some(low), Some(high)) = (port(low), port(high)) else { return Err(bad(part)) };
        if low > high {
            return Err(bad(part));
        }
        toml.push(if low == high { low.to_string() } else { format!("\"{low}-{high}\"") });
        first = first.or(Some(low));
    }
    let toml = match toml.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    first.map(|first| Ports { toml, first }).ok_or_else(|| bad(typed))
}

/// A path for messages and to be typed again.
fn shown(dir: &Path) -> String {
    let text = dir.display().to_string();
    let text = text.trim_start_matches("./").to_owned();
    if text.contains(' ') { format!("\"{text}\"") } else { text }
}
