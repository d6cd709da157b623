//! `lanrage server`: the place where parties meet, in the foreground.

use super::config::ServeConfig;
use super::failure::Failure;
use super::signals::Signals;
use crate::engine::lobby;
use crate::host::control::choice::HTTPS_PORT as HTTPS;
use crate::host::threads;
use crate::model::pin;
use crate::server::{self, ServerHandle, ServerOptions, Tls};
use std::io::{self, Write};
use std::net::SocketAddr;

/// Serves until it is told to stop.
///
/// # Errors
/// When it cannot start, or cannot store the parties at the end.
pub fn serve(config: ServeConfig) -> Result<(), Failure> {
    let lobby =
        lobby::Knobs { sweep: config.sweep, gone_after: config.knobs.gone_after, ..lobby::Knobs::default() };
    let own = config.tls == Tls::SelfSigned;
    let mut options = ServerOptions::new(config.data_dir);
    options.listen = config.listen;
    options.names = config.names;
    options.tls = config.tls;
    options.lobby = lobby;
    options.relay = config.relay;
    threads::allow_many_files();
    threads::slow_runtime()?.block_on(async {
        let mut signals = Signals::new()?;
        let handle = server::start(options).await?;
        welcome(&handle, &mut io::stdout().lock(), own);
        signals.next().await;
        tracing::info!("stopping");
        tokio::select! {
            stopped = handle.shutdown() => Ok(stopped?),
            () = signals.next() => Err(Failure::new("stopped", "stopped before everything was stored", "")),
        }
    })
}

/// Where it listens and what to tell the players. Nobody reading is no reason to stop.
fn welcome(handle: &ServerHandle, out: &mut dyn Write, own: bool) {
    for address in handle.addresses() {
        let tls = if handle.pin().is_some() { format!(" and https://{address}") } else { String::new() };
        let _ = writeln!(out, "listening on http://{address}{tls}");
    }
    if let Some(relay) = handle.relay() {
        let addresses: Vec<String> = relay.addresses().iter().map(SocketAddr::to_string).collect();
        let _ = writeln!(out, "relaying at udp {}", addresses.join(", "));
    }
    for warning in handle.warnings() {
        let _ = writeln!(out, "note: {warning}");
    }
    let ports = || handle.addresses().iter().map(SocketAddr::port);
    let port = ports().next().unwrap_or(server::PORT);
    let _ = match handle.pin() {
        None => writeln!(
            out,
            "players write: lanrage run --game GAME --control server:http://THIS-COMPUTER:{port}\n\
             Plain HTTP: what players publish is sealed, but who meets whom can be seen\n\
             on the way; --tls-self-signed hides it."
        ),
        Some(pin) => {
            // The usual port needs not be written.
            let port = if ports().any(|p| p == HTTPS) { String::new() } else { format!(":{port}") };
            let pin = if own { format!("{}{pin}", pin::MARK) } else { String::new() };
            writeln!(
                out,
                "players write: lanrage run --game GAME --control server:https://THIS-COMPUTER{port}{pin}"
            )
        }
    };
    if own && let Some(pin) = handle.pin() {
        let _ = writeln!(out, "certificate: of the server's own making, SHA-256 {pin}");
    }
    let _ = writeln!(out, "Ctrl-C stops.");
    let _ = out.flush();
}
