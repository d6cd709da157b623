//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    lanrage::app::main()
}
