//! Relays that the player names: the one parser of `turn:` and `turns:` texts (RFC 7065, and an account before the host), and
//! what `run` makes of them together with `relay_secret`.
//!
//! Refused are other schemes, transports that lanrage does not speak (DTLS), relays without credentials, and a secret that no
//! relay uses. Errors never repeat a password.

use super::layers::Layers;
use crate::app::failure::Failure;
use crate::wire::credential::RelaySecret;

/// STUN and TURN (RFC 8489, section 18.6).
const TURN_PORT: u16 = 3478;
/// The same in TLS.
const TURNS_PORT: u16 = 5349;
/// Relays that a node uses at once.
const MOST: usize = 4;
/// Bytes of a user name or password (RFC 8489, sections 14.3 and 14.4).
const ACCOUNT_BYTES: usize = 508;
const HINT: &str = "write turn:HOST:3478, turns:HOST:443 or turn:USER:PASSWORD@HOST:3478";

/// How a relay is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayBy {
    /// UDP, and TCP at the same port where UDP does not get through.
    UdpOrTcp,
    /// UDP only.
    Udp,
    /// TCP only.
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// A user name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A relay as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayPlace {
    /// A name or an IP address (IPv6 without brackets).
    pub host: String,
    /// Its port; not 0.
    pub port: u16,
    /// How it is reached.
    pub by: RelayBy,
    /// What was written before the `@`.
    pub account: Option<Account>,
}

/// What opens a relay.
#[derive(Debug, Clone)]
pub enum RelayAccess {
    /// An account that does not expire.
    Account(Account),
    /// The relay's shared secret, from which credentials for some hours are made.
    Secret(RelaySecret),
}

/// A relay to use.
#[derive(Debug, Clone)]
pub struct RelayWish {
    /// Where.
    pub place: RelayPlace,
    /// With what.
    pub access: RelayAccess,
}

impl std::str::FromStr for RelayPlace {
    type Err = String;

    /// Reads `turn:[USER:PASSWORD@]HOST[:PORT][?transport=udp|tcp]` or the same with `turns:`. A user name may have colons
    /// (those of time-limited credentials do), a password may have `@`.
    fn from_str(text: &str) -> Result<Self, String> {
        // The whole text is shown only where it cannot hold a password.
        let (account, after) = text.rsplit_once('@').map_or(("", text), |(before, after)| (before, after));
        let shown = || after.chars().take(64).collect::<String>().escape_debug().to_string();
        let no_relay = || format!("`{}` names no relay", shown());
        let (scheme, rest) = text.split_once(':').ok_or_else(no_relay)?;
        let tls = match scheme {
            "turn" => false,
            "turns" => true,
            _ => return Err(no_relay()),
        };
        let place = if account.is_empty() { rest } else { after };
        let (place, query) = place.split_once('?').unwrap_or((place, ""));
        let by = match (tls, query) {
            (false, "") => RelayBy::UdpOrTcp,
            (false, "transport=udp") => RelayBy::Udp,
            (false, "transport=tcp") => RelayBy::Tcp,
            (true, "" | "transport=tcp") => RelayBy::Tls,
            (true, "transport=udp") => {
                return Err(format!("`{}`: TLS over UDP (DTLS) is not spoken here", shown()));
            }
            (_, _) => {
                return Err(format!("`{}`: what follows `?` is no transport=udp or transport=tcp", shown()));
            }
        };
        let (host, port) = split_port(place).ok_or_else(no_relay)?;
        let port =
            if port.is_empty() { Some(if tls { TURNS_PORT } else { TURN_PORT }) } else { digits(port) };
        let port = port.ok_or_else(|| format!("`{}`: the port is none from 1 to 65535", shown()))?;
        if !is_host(host) {
            return Err(no_relay());
        }
        let account =
            match account.split_once(':') {
                None => None,
                Some((_, both)) => Some(read_account(both).ok_or_else(|| {
                    format!("`{}`: what stands before the `@` is no USER:PASSWORD", shown())
                })?),
            };
        Ok(Self { host: host.to_owned(), port, by, account })
    }
}

/// IPv6 addresses stand in brackets.
fn split_port(place: &str) -> Option<(&str, &str)> {
    let Some(bare) = place.strip_prefix('[') else {
        return Some(place.split_once(':').unwrap_or((place, "")));
    };
    let (host, after) = bare.split_once(']')?;
    let good = host.parse::<std::net::Ipv6Addr>().is_ok() && (after.is_empty() || after.starts_with(':'));
    good.then(|| (host, after.strip_prefix(':').unwrap_or_default()))
}

fn digits(port: &str) -> Option<u16> {
    let plain = port.bytes().all(|b| b.is_ascii_digit());
    port.parse().ok().filter(|p| plain && *p != 0)
}

fn is_host(host: &str) -> bool {
    let letter = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    !host.is_empty() && host.len() <= 253 && host.chars().all(letter)
}

fn read_account(text: &str) -> Option<Account> {
    let (user, password) = text.rsplit_once(':')?;
    let fits = |t: &str| !t.is_empty() && t.len() <= ACCOUNT_BYTES && !t.chars().any(char::is_control);
    (fits(user) && fits(password)).then(|| Account { user: user.to_owned(), password: password.to_owned() })
}

/// The relays of `doctor`, which asks them for nothing that needs an account. STUN servers are as good there.
///
/// # Errors
/// The first that is none.
pub(in crate::app) fn named(texts: &[String], most: usize) -> Result<Vec<RelayPlace>, Failure> {
    let read = |text: &String| {
        let turn = text.strip_prefix("stun:").map_or_else(|| text.clone(), |rest| format!("turn:{rest}"));
        turn.parse()
            .map_err(|e| Failure::usage("bad_option", format!("--relay: {e}"), "write turn:HOST:3478"))
    };
    texts.iter().take(most).map(read).collect()
}

/// The relays of `run`, each with what opens it.
pub(super) fn wishes(layers: &Layers) -> Result<Vec<RelayWish>, Failure> {
    let places: Vec<RelayPlace> = layers.each("relay", HINT, str::parse)?;
    let shared = layers.one("relay_secret", "write the relay's own (coturn: static-auth-secret)", secret)?;
    let Some(raw) = layers.raw("relay") else {
        return match layers.raw("relay_secret") {
            Some(raw) if raw.is_of_now() => {
                Err(raw.wrong("a secret of no relay", "name the relay too: --relay turn:HOST:3478"))
            }
            Some(_) | None => Ok(Vec::new()),
        };
    };
    if places.len() > MOST {
        let what = format!("{} relays are more than the {MOST} that are used at once", places.len());
        return Err(raw.wrong(what, "name the nearest ones"));
    }
    let open = |place: RelayPlace| match (&place.account, &shared) {
        (Some(account), _) => Ok(RelayWish { access: RelayAccess::Account(account.clone()), place }),
        (None, Some(secret)) => Ok(RelayWish { access: RelayAccess::Secret(secret.clone()), place }),
        (None, None) => {
            let what = format!("{} opens to nobody without credentials", place.host);
            Err(raw.wrong(what, "add --relay-secret TEXT, or write turn:USER:PASSWORD@HOST:PORT"))
        }
    };
    places.into_iter().map(open).collect()
}

fn secret(text: &str) -> Result<RelaySecret, String> {
    if text.is_empty() { Err("an empty secret".to_owned()) } else { Ok(RelaySecret::new(text.as_bytes())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read<'a> = (&'a str, u16, RelayBy, Option<(&'a str, &'a str)>);

    #[test]
    fn relays_are_read_as_they_are_written() {
        let table: &[(&str, Read<'_>)] = &[
            ("turn:h.example", ("h.example", 3478, RelayBy::UdpOrTcp, None)),
            ("turn:10.0.0.1:99?transport=udp", ("10.0.0.1", 99, RelayBy::Udp, None)),
            ("turn:h?transport=tcp", ("h", 3478, RelayBy::Tcp, None)),
            ("turns:h", ("h", 5349, RelayBy::Tls, None)),
            ("turns:[2001:db8::1]:443?transport=tcp", ("2001:db8::1", 443, RelayBy::Tls, None)),
            ("turn:[2001:db8::1]", ("2001:db8::1", 3478, RelayBy::UdpOrTcp, None)),
            ("turn:ana:x@h:1", ("h", 1, RelayBy::UdpOrTcp, Some(("ana", "x")))),
            ("turns:18000:lab:a+/=@?@h", ("h", 5349, RelayBy::Tls, Some(("18000:lab", "a+/=@?")))),
        ];
        for (text, (host, port, by, account)) in table {
            let read: RelayPlace = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            let got = read.account.as_ref().map(|a| (a.user.as_str(), a.password.as_str()));
            assert_eq!(
                (read.host.as_str(), read.port, read.by, got),
                (*host, *port, *by, *account),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_relay_is_refused_with_the_reason_and_without_the_password() {
        for (text, part) in [
            ("", "`` names no relay"),
            ("h:1", "`h:1` names no relay"),
            ("stun:h", "names no relay"),
            ("http://h", "names no relay"),
            ("turn:", "names no relay"),
            ("turn://h", "names no relay"),
            ("turn:2001:db8::1", "the port is none"),
            ("turn:[2001:db8::1", "names no relay"),
            ("turn:[h]:1", "names no relay"),
            ("turn:h:0", "the port is none from 1 to 65535"),
            ("turn:h:+1", "the port is none"),
            ("turn:h:99999", "the port is none"),
            ("turn:h?transport=sctp", "what follows `?`"),
            ("turns:h?transport=udp", "DTLS"),
            ("turn:ana@h", "no USER:PASSWORD"),
            ("turn::hush@h", "no USER:PASSWORD"),
            ("turn:ana:hush@h:0", "the port is none"),
            ("trun:ana:hush@h", "names no relay"),
        ] {
            let error = text.parse::<RelayPlace>().map(|_| ()).unwrap_err();
            assert!(error.contains(part) && !error.contains("hush"), "{text}: {error}");
        }
        let place: RelayPlace = "turn:ana:hush@h".parse().unwrap();
        assert!(!format!("{place:?}").contains("hush"));
    }
}
