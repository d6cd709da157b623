//! A relay and nothing else, without limits of bytes, for `scripts/relay-bench`: `relay_server IP:PORT SECRET`.
//! It runs until its standard input ends.
#![allow(clippy::print_stdout, reason = "a program for scripts")]

use lanrage::engine::relay::{Limits, Rate};
use lanrage::server::relay::RelayOptions;
use lanrage::server::{ServerOptions, start};
use std::io::Read;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(at), Some(secret)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("relay_server IP:PORT SECRET");
    };
    let dir = std::env::temp_dir().join(format!("relay-server-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let mut options = ServerOptions::new(&dir);
    options.listen = vec!["127.0.0.1:0".parse()?];
    let unlimited =
        Limits { party_rate: Rate::UNLIMITED, address_rate: Rate::UNLIMITED, ..Limits::default() };
    let limits = Limits { per_peer: 1000, per_party: 1000, per_address: 1000, ..unlimited };
    options.relay = Some(RelayOptions {
        listen: vec![at.parse()?],
        secret: Some(secret),
        limits,
        ..RelayOptions::default()
    });
    lanrage::host::threads::slow_runtime().map_err(|t| anyhow::anyhow!(t.message))?.block_on(async {
        let server = start(options).await?;
        println!("ready");
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
        let _ = ended.await?;
        if let Some(relay) = server.relay() {
            let numbers = relay.numbers().await.unwrap_or_default();
            numbers.iter().for_each(|(name, value)| println!("{name} {value}"));
        }
        server.shutdown().await
    })?;
    std::fs::remove_dir_all(dir)?;
    Ok(())
}
