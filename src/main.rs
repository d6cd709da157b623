//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    #[cfg(feature = "sim")]
    if std::env::args_os().nth(1).is_some_and(|word| word == "sim") {
        return sim::main();
    }
    lanrage::app::main()
}

/// `lanrage sim`: the simulated world, for whoever builds lanrage. Not in a release build.
#[cfg(feature = "sim")]
mod sim {
    use clap::Parser;

    /// Run stories of the simulated world and hold the nodes to their rules
    #[derive(Debug, Parser)]
    #[command(name = "lanrage sim")]
    struct Args {
        /// The first seed
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// How many seeds, from the first on
        #[arg(long, default_value_t = 1)]
        seeds: u64,
        /// Print every event
        #[arg(long)]
        trace: bool,
    }

    pub(super) fn main() -> std::process::ExitCode {
        let Args { seed, seeds, trace } = Args::parse_from(std::env::args_os().skip(1));
        lanrage::sim::cli(seed, seeds, trace)
    }
}
