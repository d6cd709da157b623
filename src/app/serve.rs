//! `lanrage server`: the place where parties meet.

use super::config::ServeConfig;
use super::failure::Failure;

/// Serves until it is told to stop.
///
/// # Errors
/// When it cannot start.
pub fn serve(config: ServeConfig) -> Result<(), Failure> {
    // STAND-IN until the server is merged.
    let _ = config;
    Err(Failure::new("stand_in", "the server is not merged yet", ""))
}
