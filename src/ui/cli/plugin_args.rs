//! What was typed after `lanrage plugin`: making a plugin (`new`, `check`, `test`) and having it (`list`, `add`, `remove`).

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What to do with plugins.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum PluginCommand {
    /// Make a folder with a plugin that works: manifest, code, profile, samples, test
    New(NewPluginArgs),
    /// Say everything that is wrong with a plugin, with file, line and column
    Check {
        /// The plugin's folder
        #[arg(default_value = ".", hide_default_value = true)]
        dir: PathBuf,
    },
    /// Run a plugin's tests and samples in the real sandbox, with a clock of their own
    Test(TestPluginArgs),
    /// All plugins: those that come with lanrage and those that were added
    List {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Add a plugin, after showing what it may do
    Add(AddPluginArgs),
    /// Remove an added plugin
    Remove {
        /// Its id
        id: String,
    },
}

/// Options of `plugin new`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(after_help = NEW_HELP)]
pub struct NewPluginArgs {
    /// The plugin's id, which is its folder's name too: small letters, digits, `-`
    pub id: String,
    /// The folder to make it in [default: the current one]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The game as people call it [default: made from the id]
    #[arg(long, value_name = "NAME")]
    pub game: Option<String>,
    /// The UDP ports on which the game is found: 6112 or 6112-6119 or several with commas [default: 27999]
    #[arg(long, value_name = "PORTS")]
    pub udp: Option<String>,
    /// How the game is found: its server says by itself that it is there, or answers who asks
    #[arg(long, value_name = "KIND", value_parser = ["announcement", "query"], default_value = "announcement")]
    pub kind: String,
}

const NEW_HELP: &str = "\
Examples:
  lanrage plugin new old-shooter
  lanrage plugin new old-shooter --game \"Old Shooter\" --udp 6112-6119 --kind query";

/// Options of `plugin test`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(after_help = TEST_HELP)]
pub struct TestPluginArgs {
    /// The plugin's folder
    #[arg(default_value = ".", hide_default_value = true)]
    pub dir: PathBuf,
    /// Write what came out into the samples as what is expected
    #[arg(long)]
    pub update: bool,
    /// Throw broken samples at every hook, for this many seconds
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub fuzz: Option<u32>,
    /// Show every call: packet, verdict, ticks, memory, log
    #[arg(long)]
    pub trace: bool,
}

const TEST_HELP: &str = "\
Exit codes: 0 all green, 1 something is not, 2 wrong usage.

Examples:
  lanrage plugin test
  lanrage plugin test plugins/old-shooter --trace
  lanrage plugin test --fuzz 60";

/// Options of `plugin add`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
#[command(after_help = ADD_HELP)]
pub struct AddPluginArgs {
    /// A folder, an archive, a git repository, or an id of an index
    pub source: String,
    /// Agree to what the plugin may do, without being asked
    #[arg(long)]
    pub yes: bool,
    /// Where ids are looked up: a file or git repository with an index
    #[arg(long, value_name = "WHERE")]
    pub index: Option<String>,
}

const ADD_HELP: &str = "\
Examples:
  lanrage plugin add ./old-shooter
  lanrage plugin add old-shooter.tar.gz
  lanrage plugin add https://git.example.org/old-shooter.git";
