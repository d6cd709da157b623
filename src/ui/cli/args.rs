//! What was typed. Values stay texts where other layers (config file, environment) can give them too: `app::config` reads all
//! layers with one parser, so that a mistake gets the same words wherever it was made.

use super::games_args::{LearnArgs, RecordArgs, ReplayArgs};
use super::plugin_args::PluginCommand;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// LAN games over the internet, through one invite.
///
/// `lanrage run --game minecraft` on two PCs, one invite passed between them, and each player's game shows the other's world in
/// its own LAN list: no account, no port forwarding.
#[derive(Debug, Clone, Parser)]
#[command(name = "lanrage", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed (the message says what to try), 2 wrong usage.")]
pub struct LowArgs {
    /// For every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "For every command")]
pub struct GlobalArgs {
    /// Where this node keeps its key and its parties; one folder for each node on a PC
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Settings file; without it `config.toml` in the usual place, if there is one
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say more on standard error; -vv for details, -vvv for every packet
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Make or join a party and bridge the game
    Run(RunArgs),
    /// Be the place where the peers of parties find each other
    Server(ServerArgs),
    /// Show what is happening now: peers, paths and why, games found
    Status {
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Print the running party's invite again: as text, link and QR code
    Invite {
        /// One JSON object instead
        #[arg(long)]
        json: bool,
    },
    /// Say goodbye to the party and stop the running node
    Leave,
    /// Remove a peer from the running party and change its key, so that it cannot come back
    Kick {
        /// Its name, its id, or the beginning of its id
        peer: String,
    },
    /// Check this PC, its router and the servers and, with a party running, the way to each of the others
    Doctor(DoctorArgs),
    /// Measure the way to another player, through the tunnel: round trips, losses, how much it carries
    Bench(BenchArgs),
    /// Look at the profiles of games
    Games {
        /// What to do with them.
        #[command(subcommand)]
        command: GamesCommand,
    },
    /// Make, test, add and remove plugins: games that need code
    Plugin {
        /// What to do with them.
        #[command(subcommand)]
        command: PluginCommand,
    },
    /// Print completions for a shell
    #[command(hide = true)]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page of lanrage, or of one of its commands
    #[command(hide = true)]
    Man {
        /// A command; without it the page of lanrage itself
        command: Option<String>,
        /// Write all pages into this folder instead
        #[arg(long, value_name = "DIR", conflicts_with = "command")]
        dir: Option<PathBuf>,
    },
}

/// What to do with profiles.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum GamesCommand {
    /// All games that `--game` knows
    List {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// The profile of one game
    Show {
        /// Its id or an alias
        id: String,
    },
    /// Read a profile and say what is wrong with it, with line and column
    Check {
        /// A TOML file
        file: PathBuf,
    },
    /// Record how a game searches the LAN and is joined, and nothing else
    Record(RecordArgs),
    /// Draft a profile from such captures, with its reasons, and samples that hold it to them
    Learn(LearnArgs),
    /// Say what the profiles make of each packet of a capture, or send its broadcasts again
    Replay(ReplayArgs),
    /// Print the keys of profiles as a JSON schema, for editors
    Schema,
}

/// Options of `run`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = RUN_HELP)]
pub struct RunArgs {
    /// The game to bridge, by id or alias (see `lanrage games list`); repeatable
    #[arg(long = "game", value_name = "ID")]
    pub games: Vec<String>,
    /// Join a friend's party: the invite as text or link
    #[arg(long, value_name = "INVITE")]
    pub join: Option<String>,
    /// Make a fresh party instead of opening this data folder's own one again
    #[arg(long = "new", conflicts_with = "join")]
    pub fresh: bool,
    /// What the others call you
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// How the game's packets get in and out: `lan` makes a network device, `proxy` needs no rights, `auto` chooses
    #[arg(long, value_name = "MODE", value_parser = ["auto", "lan", "proxy"], hide_possible_values = true)]
    pub mode: Option<String>,
    /// How the peers find each other: auto, direct, file:DIR or server:URL; repeatable
    #[arg(long, value_name = "WHERE")]
    pub control: Vec<String>,
    /// Address and UDP port of the tunnel; repeatable
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Vec<String>,
    /// Network cards on which games are heard; default: all that are up
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub cards: Vec<String>,
    /// TCP ports of a server here that wants to be told who connects (PROXY protocol v2); proxy mode only
    #[arg(long, value_name = "PORT,…", value_delimiter = ',')]
    pub proxy_protocol: Vec<String>,
    /// Other computers and consoles of your own network see and join the games you found, too; takes proxy mode
    #[arg(long)]
    pub share_lan: bool,
    /// The party's network, when you make the party
    #[arg(long, value_name = "A.B.C.0/24")]
    pub subnet: Option<String>,
    /// Name of the network device
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// A relay (TURN) to use beside the servers' own: also turns:HOST or turn:USER:PASSWORD@HOST; repeatable
    #[arg(long, value_name = "turn:HOST:PORT")]
    pub relay: Vec<String>,
    /// The secret of relays that are named without an account (coturn: static-auth-secret)
    #[arg(long, value_name = "TEXT")]
    pub relay_secret: Option<String>,
    /// Pass packets on for two others that find no direct way: true or false; default: only the host does
    #[arg(long, value_name = "YES")]
    pub friend_relay: Option<String>,
    /// For who writes a profile or a plugin: load what was edited at once, and show what it makes of the last packets
    #[arg(long)]
    pub dev: bool,
    /// A plugin's folder, or a folder with several, to load from there; repeatable [default: the current folder, if it is one]
    #[arg(long, value_name = "DIR", requires = "dev")]
    pub plugin_dir: Vec<PathBuf>,
    /// Let all ports in between peers, not only the game's
    #[arg(long)]
    pub open: bool,
    /// One JSON object a line on standard output, one for each event
    #[arg(long)]
    pub json: bool,
    /// The game to start; lanrage stops when it ends
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

const RUN_HELP: &str = "\
Examples:
  lanrage run --game minecraft --control server:http://play.example.org:8667
  lanrage run --game minecraft --join 4hedq-mqgxd-…
  lanrage run --game openttd --join lanrage://join/4hedq-mqgxd-… -- openttd";

/// Options of `doctor`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = DOCTOR_HELP)]
pub struct DoctorArgs {
    /// One JSON object instead of lines
    #[arg(long)]
    pub json: bool,
    /// A server to look at: server:URL; repeatable [default: those of the running or last party]
    #[arg(long, value_name = "WHERE")]
    pub control: Vec<String>,
    /// A relay to look at; repeatable
    #[arg(long, value_name = "turn:HOST:PORT")]
    pub relay: Vec<String>,
}

const DOCTOR_HELP: &str = "\
It takes at most six seconds, changes nothing, and needs no rights (with sudo it sees the firewall too).
Exit codes: 0 nothing is a problem, 1 something is (or could not be looked at), 2 wrong usage.

Examples:
  lanrage doctor
  lanrage doctor --control server:http://play.example.org:8667";

/// Options of `bench`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = BENCH_HELP)]
pub struct BenchArgs {
    /// The player: name, id, or the beginning of an id; not needed when only one other is there
    #[arg(value_name = "NAME|PEER")]
    pub peer: Option<String>,
    /// In three seconds instead of a dozen, and less exact
    #[arg(long)]
    pub quick: bool,
    /// One JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

const BENCH_HELP: &str = "\
`lanrage run` must be running on both PCs. It takes at most fifteen seconds, in which it fills the line for
moments at a time: not while somebody plays.

Examples:
  lanrage bench
  lanrage bench Bob --quick";

/// Options of `server`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = SERVER_HELP)]
pub struct ServerArgs {
    /// Address and TCP port to serve on; repeatable [default: 0.0.0.0:8667]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Vec<String>,
    /// Where parties are kept
    #[arg(long, value_name = "KIND", value_parser = ["redb"], hide_possible_values = true)]
    pub store: Option<String>,
    /// Speak TLS too, on every port, with this certificate (PEM, the whole chain)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Speak TLS too, with a certificate of the server's own making; players get its fingerprint with the address
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    pub tls_self_signed: bool,
    /// Address and UDP port of the relay (TURN and STUN); the port above serves too; repeatable [default: port 3478]
    #[arg(long, value_name = "IP:PORT", conflicts_with = "no_relay")]
    pub relay: Vec<String>,
    /// This server's address as players see it, when that is another than its own; two make better router tests; repeatable
    #[arg(long, value_name = "IP")]
    pub public_ip: Vec<String>,
    /// Secret for the relay's credentials, shared with other relays [default: drawn and kept in the data folder]
    #[arg(long, value_name = "TEXT")]
    pub relay_secret: Option<String>,
    /// No relay: peers that cannot reach each other directly will not meet
    #[arg(long)]
    pub no_relay: bool,
}

const SERVER_HELP: &str = "\
Examples:
  lanrage server
  lanrage server --listen 0.0.0.0:8667 --listen 0.0.0.0:443 --tls-self-signed
  lanrage server --listen 0.0.0.0:443 --tls-cert fullchain.pem --tls-key privkey.pem

Port 443 with TLS is what players reach from networks that let nothing else out.";

/// The definition, for completions and man pages.
#[must_use]
pub fn definition() -> clap::Command {
    LowArgs::command()
}

/// Reads the command line.
///
/// # Errors
/// What clap says (help and version are "errors" too), in better words for what a later version will have.
pub fn parse(typed: impl IntoIterator<Item = OsString>) -> Result<LowArgs, clap::Error> {
    LowArgs::try_parse_from(typed).map_err(super::later::explain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &str) -> Result<LowArgs, clap::Error> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_definition_holds_together() {
        definition().debug_assert();
    }

    #[test]
    fn run_keeps_what_was_typed() {
        let low =
            typed("lanrage run --game a --game b --cards eth0,wlan0 --data-dir /d -vv -- mc --full").unwrap();
        assert_eq!((low.global.verbose, low.global.data_dir), (2, Some("/d".into())));
        let Command::Run(run) = low.command else { panic!("run") };
        assert_eq!(run.games, ["a", "b"]);
        assert_eq!(run.cards, ["eth0", "wlan0"]);
        assert_eq!(run.command, ["mc", "--full"]);
    }

    #[test]
    fn what_comes_later_is_refused_in_its_own_words() {
        let error = typed("lanrage ui").unwrap_err();
        assert!(error.to_string().contains("`lanrage ui` is not in this version"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn a_slip_is_corrected_as_usual() {
        let error = typed("lanrage stauts").unwrap_err().to_string();
        assert!(error.contains("'status'"), "{error}");
    }
}
