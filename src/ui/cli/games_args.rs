//! What was typed after `lanrage games learn`, `record` and `replay`.

use clap::Args;
use std::path::PathBuf;

/// Options of `games learn`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(after_help = LEARN_HELP)]
pub struct LearnArgs {
    /// Captures (pcap or pcapng) of a LAN search and a join; several of one game make the draft surer
    #[arg(required = true, value_name = "FILE.pcap")]
    pub files: Vec<PathBuf>,
    /// The profile's id: small letters, digits, `-` [default: made from the first file's name]
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// The game as people call it [default: the id]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// What the game's list called the server while you recorded: its place is looked for then, not guessed
    #[arg(long, value_name = "TEXT")]
    pub title: Option<String>,
    /// Look only at packets from or to these ports: 6112 or 6112-6119 or several with commas
    #[arg(long, value_name = "PORTS")]
    pub ports: Option<String>,
    /// The folder for ID.toml and ID.samples [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Write over a draft that is there
    #[arg(long)]
    pub force: bool,
}

const LEARN_HELP: &str = "\
Examples:
  lanrage games learn frozen-bubble.pcap --name \"Frozen Bubble\"
  lanrage games learn one.pcap two.pcap --id my-game --title \"Ana's game\"";

/// Options of `games record`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(after_help = RECORD_HELP)]
pub struct RecordArgs {
    /// The game's program by name, as `ps` shows it; it may be started later
    #[arg(long, value_name = "NAME")]
    pub game_process: Option<String>,
    /// The game's program by its process number; repeatable
    #[arg(long, value_name = "N", conflicts_with = "game_process")]
    pub pid: Vec<u32>,
    /// The game's ports: 6112 or 6112-6119 or several with commas
    #[arg(long, value_name = "PORTS")]
    pub ports: Option<String>,
    /// Network cards to listen on [default: all that are up]
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub cards: Vec<String>,
    /// The file to write [default: the game's name with .pcap]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Stop after this long; Ctrl-C stops too
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: Option<u32>,
    /// Put other addresses and names in the place of yours
    #[arg(long)]
    pub redact: bool,
    /// Write over a file that is there
    #[arg(long)]
    pub force: bool,
}

const RECORD_HELP: &str = "\
Only that game's search and the first packets of its joins are written, nothing else. It needs the right to listen on
network cards: sudo, or `setcap cap_net_raw+ep`.

Examples:
  sudo lanrage games record --game-process frozen-bubble --seconds 60
  sudo lanrage games record --ports 6112-6119 --out warcraft.pcap --redact";

/// Options of `games replay`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(after_help = REPLAY_HELP)]
pub struct ReplayArgs {
    /// A capture (pcap or pcapng)
    #[arg(value_name = "FILE.pcap")]
    pub file: PathBuf,
    /// Ask only this profile: an id, an alias, or a TOML file
    #[arg(long, value_name = "ID")]
    pub game: Option<String>,
    /// One JSON object a packet
    #[arg(long)]
    pub json: bool,
    /// Send the broadcasts and multicasts of one side by this network card, at the rhythm of the capture
    #[arg(long, value_name = "NAME")]
    pub to_card: Option<String>,
    /// Which side: its address in the capture [default: who announces, else who says most to everybody]
    #[arg(long, value_name = "IP", requires = "to_card")]
    pub from: Option<String>,
    /// How often to send it all
    #[arg(long, value_name = "N", requires = "to_card", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub times: Option<u32>,
    /// Stop after this long at the latest [default: 60]
    #[arg(long, value_name = "N", requires = "to_card", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: Option<u32>,
}

const REPLAY_HELP: &str = "\
Examples:
  lanrage games replay doom.pcap
  lanrage games replay doom.pcap --game ./my-doom.toml
  lanrage games replay minecraft.pcap --to-card eth0 --times 20";
