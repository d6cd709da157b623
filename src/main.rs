//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    #[cfg(feature = "sim")]
    if std::env::args().nth(1).as_deref() == Some("sim") {
        return lanrage::sim::command(std::env::args().skip(2));
    }
    lanrage::app::main()
}
