//! `lanrage server`: the place where parties meet, in the foreground.

use super::config::ServeConfig;
use super::failure::Failure;
use super::signals::Signals;
use crate::engine::lobby;
use crate::host::threads;
use crate::server::{self, ServerHandle, ServerOptions};
use std::io::{self, Write};
use std::net::SocketAddr;

/// Serves until it is told to stop.
///
/// # Errors
/// When it cannot start, or cannot store the parties at the end.
pub fn serve(config: ServeConfig) -> Result<(), Failure> {
    let lobby =
        lobby::Knobs { sweep: config.sweep, gone_after: config.knobs.gone_after, ..lobby::Knobs::default() };
    let mut options = ServerOptions::new(config.data_dir);
    options.listen = config.listen;
    options.names = config.names;
    options.lobby = lobby;
    threads::slow_runtime()?.block_on(async {
        let mut signals = Signals::new()?;
        let handle = server::start(options).await?;
        welcome(&handle, &mut io::stdout().lock());
        signals.next().await;
        tracing::info!("stopping");
        tokio::select! {
            stopped = handle.shutdown() => Ok(stopped?),
            () = signals.next() => Err(Failure::new("stopped", "stopped before everything was stored", "")),
        }
    })
}

/// Where it listens and what to tell the players. Nobody reading is no reason to stop.
fn welcome(handle: &ServerHandle, out: &mut dyn Write) {
    for address in handle.addresses() {
        let _ = writeln!(out, "listening on http://{address}");
    }
    let port = handle.addresses().first().map_or(server::PORT, SocketAddr::port);
    let _ = writeln!(
        out,
        "players write: lanrage run --game GAME --control server:http://THIS-COMPUTER:{port}\n\
         Plain HTTP: what players publish is sealed, but who meets whom can be seen on the way. For the open\n\
         internet, put a proxy with TLS in front. Ctrl-C stops."
    );
    let _ = out.flush();
}
