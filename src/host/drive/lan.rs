//! The LAN side as the data loop sees it: something that reads and injects packets of games, made when the engine
//! first says which address it shall have.

use crate::buf::batch::Batch;
use crate::engine::effect::LanConfig;
use crate::engine::sink::LanSink;
use crate::host::lan::proxy::{ProxyOptions, ProxyPort};
use crate::host::lan::{LanError, LanOptions, LanPort};
use crate::model::addr::Card;
use crate::model::status::{Event, Mode, Trouble};
use crate::rules::ruleset::Ruleset;
use std::net::{SocketAddr, SocketAddrV4};

/// An open LAN side.
pub trait LanPortLike: LanSink {
    /// Waits until `try_read` may bring something. Losing the race against another event must lose no packet.
    fn readable(&mut self) -> impl Future<Output = ()>;
    /// Whether `readable` must be waited for in the runtime: something in it is no descriptor that `host::watch` watches.
    fn needs_runtime(&self) -> bool;
    /// Nobody looked for a while: more than one packet may have come.
    fn expect_many(&mut self) {}
    /// Reads into the free slots of the batch without waiting; how many were filled.
    fn try_read(&mut self, batch: &mut Batch) -> usize;
    /// Sends everything committed so far.
    fn flush(&mut self);
    /// Takes another address.
    ///
    /// # Errors
    /// When the system refuses; the node cannot go on then.
    fn reconfigure(&mut self, config: &LanConfig) -> Result<(), Trouble>;
    /// The games' rules changed: other ports and groups are to be captured.
    fn set_rules(&mut self, rules: &Ruleset);
    /// The largest packet that fits the tunnel changed.
    fn set_mtu(&mut self, mtu: u16);
    /// The physical cards changed.
    fn set_cards(&mut self, cards: &[Card]);
    /// How packets get in and out by it.
    fn mode(&self) -> Mode {
        Mode::Lan
    }
    /// This game of another player is in the party's list: it is to be reachable from this computer for some seconds from
    /// now. Told again and again as long as that is so, every five seconds or so.
    fn keep_game(&mut self, at: SocketAddrV4, tcp: bool) {
        let _ = (at, tcp);
    }
    /// Where games on this computer join what has this address in the party, if not there.
    fn local(&self, at: SocketAddrV4, tcp: bool) -> Option<SocketAddr> {
        let _ = (at, tcp);
        None
    }
    /// Where other computers of the player's own networks join it.
    fn shared(&self, at: SocketAddrV4, tcp: bool) -> Vec<SocketAddr> {
        let _ = (at, tcp);
        Vec::new()
    }
    /// Numbers of its own for `status`.
    fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        std::iter::empty()
    }
}

/// Makes the LAN side.
pub trait LanMaker {
    /// What it makes.
    type Port: LanPortLike;
    /// Opens it. Called on the data thread, inside its runtime.
    ///
    /// # Errors
    /// When there are no rights or no device.
    fn open(&mut self, config: &LanConfig) -> Result<Self::Port, Trouble>;
    /// What people are to be told about what was opened. Asked once, after it was.
    fn take_news(&mut self) -> Vec<Event> {
        Vec::new()
    }
}

/// Makes the tunnel device and everything around it.
#[derive(Debug)]
pub struct Device(pub LanOptions);

impl LanMaker for Device {
    type Port = LanPort;

    fn open(&mut self, config: &LanConfig) -> Result<LanPort, Trouble> {
        LanPort::open(self.0.clone(), config).map_err(|e| trouble(&e))
    }
}

impl LanPortLike for LanPort {
    async fn readable(&mut self) {
        self.readable().await;
    }

    fn needs_runtime(&self) -> bool {
        false
    }

    fn expect_many(&mut self) {
        self.expect_many();
    }

    fn try_read(&mut self, batch: &mut Batch) -> usize {
        self.try_read(batch)
    }

    fn flush(&mut self) {
        self.flush();
    }

    fn reconfigure(&mut self, config: &LanConfig) -> Result<(), Trouble> {
        self.reconfigure(config).map_err(|e| trouble(&e))
    }

    fn set_rules(&mut self, rules: &Ruleset) {
        self.set_rules(rules);
    }

    fn set_mtu(&mut self, mtu: u16) {
        self.set_mtu(mtu);
    }

    fn set_cards(&mut self, cards: &[Card]) {
        self.set_cards(cards);
    }

    fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let c = self.counters();
        let numbers = [
            ("lan.tun_in", c.tun_in),
            ("lan.tun_out", c.tun_out),
            ("lan.tun_writes", c.tun_writes),
            ("lan.captured", c.captured),
            ("lan.group_out", c.group_out),
            ("lan.group_to_tun", c.group_to_tun),
            ("drop.lan_too_long", c.too_long),
            ("drop.lan_refused", c.refused),
        ];
        numbers.into_iter().filter(|(name, n)| *n > 0 || !name.starts_with("drop."))
    }
}

/// Makes stand-ins on the loopback: no rights, no device.
#[derive(Debug)]
pub struct Proxy(pub ProxyOptions);

impl LanMaker for Proxy {
    type Port = ProxyPort;

    fn open(&mut self, config: &LanConfig) -> Result<ProxyPort, Trouble> {
        ProxyPort::open(self.0.clone(), config)
    }
}

impl LanPortLike for ProxyPort {
    async fn readable(&mut self) {
        self.readable().await;
    }

    fn needs_runtime(&self) -> bool {
        true
    }

    fn try_read(&mut self, batch: &mut Batch) -> usize {
        self.try_read(batch)
    }

    fn flush(&mut self) {
        self.flush();
    }

    fn reconfigure(&mut self, config: &LanConfig) -> Result<(), Trouble> {
        self.reconfigure(config);
        Ok(())
    }

    fn set_rules(&mut self, rules: &Ruleset) {
        self.set_rules(rules);
    }

    fn set_mtu(&mut self, mtu: u16) {
        self.set_mtu(mtu);
    }

    fn set_cards(&mut self, cards: &[Card]) {
        self.set_cards(cards);
    }

    fn mode(&self) -> Mode {
        Mode::Proxy
    }

    fn keep_game(&mut self, at: SocketAddrV4, tcp: bool) {
        self.keep_game(at, tcp);
    }

    fn local(&self, at: SocketAddrV4, tcp: bool) -> Option<SocketAddr> {
        self.local(at, tcp)
    }

    fn shared(&self, at: SocketAddrV4, tcp: bool) -> Vec<SocketAddr> {
        self.shared(at, tcp).into_iter().map(SocketAddr::V4).collect()
    }

    fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counters().named()
    }
}

fn trouble(error: &LanError) -> Trouble {
    let code = match error {
        LanError::NotOnThisSystem => "not_on_this_system",
        LanError::NoTun => "no_tun",
        LanError::NoRights { .. } => "no_tun_rights",
        LanError::BadName { .. } => "adapter_name",
        LanError::NameTaken { .. } => "adapter_taken",
        LanError::AddressTaken { .. } => "address_taken",
        LanError::System { .. } => "lan_failed",
    };
    let text = error.to_string();
    // The errors say what happened in their first sentence and what to try in the others.
    let end = text.match_indices(". ").map(|(at, _)| at).find(|at| {
        let next = text.get(at + 2..).and_then(|rest| rest.chars().next());
        next.is_some_and(char::is_uppercase)
    });
    let (what, hint) = end.and_then(|at| Some((text.get(..at)?, text.get(at + 2..)?))).unwrap_or((&text, ""));
    // People are shown `try:` before it.
    Trouble::new(code, what, hint.strip_prefix("Try ").unwrap_or(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_device_become_what_happened_and_what_to_try() {
        let source = std::io::ErrorKind::PermissionDenied.into();
        let t = trouble(&LanError::NoRights { doing: "make a tunnel device", source });
        assert_eq!(t.code, "no_tun_rights");
        assert!(
            t.message.contains("may not make a network device: no permission to make a tunnel device")
                && !t.message.contains("sudo")
        );
        assert!(t.hint.starts_with("Run lanrage with sudo"), "{}", t.hint);
        let t = trouble(&LanError::BadName { name: "a b".into() });
        assert!(t.message.ends_with("_ - only") && t.hint.starts_with("`--adapter"), "{t:?}");
    }
}
