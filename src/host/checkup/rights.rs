//! What this process may do, and what the cards are like, from `/proc` and `/sys`. Elsewhere than on Linux nothing is known and
//! nothing is said.

use std::path::Path;

/// What this process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// There are tunnel devices on this computer (`/dev/net/tun`).
    pub tun: bool,
    /// It may make one (CAP_NET_ADMIN).
    pub admin: bool,
    /// It may listen to the games' broadcasts on the cards (CAP_NET_RAW).
    pub raw: bool,
}

/// Numbers of capabilities (linux/capability.h).
const NET_ADMIN: u32 = 12;
const NET_RAW: u32 = 13;

/// The rights of this process; `None` where that is not known.
#[must_use]
pub fn rights() -> Option<Rights> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let effective = capabilities(&status)?;
    Some(Rights {
        tun: Path::new("/dev/net/tun").exists(),
        admin: effective >> NET_ADMIN & 1 == 1,
        raw: effective >> NET_RAW & 1 == 1,
    })
}

fn capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// What kind of device a card is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CardKind {
    /// A cable, Wi-Fi, a bridge.
    Plain,
    /// Another program's tunnel: a VPN.
    Tunnel,
}

/// What kind of device the card of this name is, and the largest packet that it takes; `None` for what is not known.
#[must_use]
pub fn card(name: &str) -> (Option<CardKind>, Option<u16>) {
    // A name is part of a path here.
    if name.is_empty() || name.contains(['/', '.']) {
        return (None, None);
    }
    let dir = Path::new("/sys/class/net").join(name);
    if !dir.exists() {
        return (None, None);
    }
    let uevent = std::fs::read_to_string(dir.join("uevent")).unwrap_or_default();
    let tunnel = dir.join("tun_flags").exists() || uevent.lines().any(|l| l == "DEVTYPE=wireguard");
    let mtu = std::fs::read_to_string(dir.join("mtu")).ok().and_then(|t| t.trim().parse().ok());
    (Some(if tunnel { CardKind::Tunnel } else { CardKind::Plain }), mtu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_capabilities_count() {
        let status = "Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t0000000000001000\nCapBnd:\t00\n";
        assert_eq!(capabilities(status), Some(1 << NET_ADMIN));
        assert_eq!(capabilities("CapEff:\tnonsense"), None);
        assert_eq!(capabilities(""), None);
    }

    #[test]
    fn only_names_of_cards_are_looked_up() {
        for name in ["", "../../etc", "no-such-card"] {
            assert_eq!(card(name), (None, None), "{name}");
        }
        #[cfg(target_os = "linux")]
        assert_eq!(card("lo").0, Some(CardKind::Plain));
    }
}
