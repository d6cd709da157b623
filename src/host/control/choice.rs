//! Which control plane, as people write it: `file:DIR`, `server:URL` or `direct`.

use crate::model::pin::{self, Pin};
use crate::wire::invite::DIRECT;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use tokio_tungstenite::tungstenite::http::Uri;

/// The port of `lanrage server`, taken when an `http` address names none.
pub const DEFAULT_PORT: u16 = 8667;
/// The port of `https`, taken when such an address names none; also where a server is looked for when its own port does not
/// answer.
pub const HTTPS_PORT: u16 = 443;

/// Which control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlChoice {
    /// A shared folder.
    Folder(PathBuf),
    /// A `lanrage server`, by its URL as given; `ServerAddress` reads it.
    Server(String),
    /// The members' own tunnels; with the addresses to knock at, where one joins and knows any.
    Direct(Vec<SocketAddr>),
}

/// Why a control plane's text was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChoice {
    /// None of the kinds.
    #[error("\"{0}\" names no control plane; write file:DIR, server:http://HOST:PORT or direct")]
    Kind(String),
    /// `file:` without a folder.
    #[error("file: needs a folder after it, such as file:/srv/lan-party")]
    NoFolder,
    /// `direct:` with something else than addresses.
    #[error("\"{0}\" is no address of a player; write direct:IP:PORT, several with commas between")]
    NotAnAddress(String),
    /// A URL that cannot be read.
    #[error("\"{0}\" is not an address of a server; write server:http://HOST:PORT")]
    NotAUrl(String),
    /// A fingerprint that is none.
    #[error("\"{url}\": {why}")]
    Pin {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: pin::NotAPin,
    },
    /// A fingerprint of a certificate that nobody would show.
    #[error("\"{0}\": a certificate's fingerprint goes with https://, not with http://")]
    PinWithoutTls(String),
    /// A part after `#` that is no fingerprint.
    #[error("\"{0}\": after '#' a server's address has nothing but sha256= and a fingerprint")]
    Fragment(String),
    /// Another scheme.
    #[error("\"{url}\": a server is reached by https:// or http://, not by {scheme}://")]
    Scheme {
        /// What was given.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// No host.
    #[error("\"{0}\" names no host; write server:http://HOST:PORT")]
    NoHost(String),
    /// A user name or password in the URL.
    #[error("a server's address carries no user name or password")]
    UserInfo,
    /// A query.
    #[error("\"{0}\": a server's address has no part after '?'")]
    Query(String),
}

impl std::fmt::Display for ControlChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(dir) => write!(f, "file:{}", dir.display()),
            Self::Server(url) => write!(f, "server:{url}"),
            Self::Direct(addresses) if addresses.is_empty() => f.write_str("direct"),
            Self::Direct(addresses) => {
                let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                write!(f, "direct:{}", list.join(","))
            }
        }
    }
}

impl FromStr for ControlChoice {
    type Err = BadChoice;

    fn from_str(text: &str) -> Result<Self, BadChoice> {
        let text = text.trim();
        if let Some(dir) = text.strip_prefix("file:") {
            if dir.is_empty() {
                return Err(BadChoice::NoFolder);
            }
            return Ok(Self::Folder(PathBuf::from(dir)));
        }
        if let Some(url) = text.strip_prefix("server:") {
            url.parse::<ServerAddress>()?;
            return Ok(Self::Server(url.to_owned()));
        }
        if text == "direct" {
            return Ok(Self::Direct(Vec::new()));
        }
        if let Some(list) = text.strip_prefix("direct:") {
            let read = |a: &str| {
                let addr: Option<SocketAddr> = a.trim().parse().ok().filter(|a: &SocketAddr| a.port() != 0);
                addr.ok_or_else(|| BadChoice::NotAnAddress(a.to_owned()))
            };
            return list.split(',').take(DIRECT).map(read).collect::<Result<_, _>>().map(Self::Direct);
        }
        Err(BadChoice::Kind(text.to_owned()))
    }
}

/// A server's URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// Whether it is `https`: nobody on the way may read along or take the server's place.
    pub tls: bool,
    /// Name or IP address, without brackets, lower case.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// What comes before `/v1/…`: empty, or a path such as `/lanrage` behind a proxy.
    pub base: String,
    /// The only certificate that is accepted.
    pub pin: Option<Pin>,
}

impl ServerAddress {
    /// `host:port` as it stands in an HTTP `Host` header, and in the proof of a hello.
    #[must_use]
    pub fn authority(&self) -> String {
        self.authority_at(self.port)
    }

    /// The same with another port.
    #[must_use]
    pub fn authority_at(&self, port: u16) -> String {
        if self.host.contains(':') {
            format!("[{}]:{port}", self.host)
        } else {
            format!("{}:{port}", self.host)
        }
    }
}

impl FromStr for ServerAddress {
    type Err = BadChoice;

    fn from_str(given: &str) -> Result<Self, BadChoice> {
        let bad_pin = |why| BadChoice::Pin { url: given.to_owned(), why };
        let (url, pin) = pin::split(given).map_err(bad_pin)?;
        if url.contains('#') {
            return Err(BadChoice::Fragment(given.to_owned()));
        }
        let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let tls = match scheme.as_deref() {
            Some("https") => true,
            Some("http") if pin.is_some() => return Err(BadChoice::PinWithoutTls(given.to_owned())),
            Some("http") => false,
            Some("") | None => return Err(BadChoice::NotAUrl(url.to_owned())),
            Some(other) => {
                return Err(BadChoice::Scheme { url: url.to_owned(), scheme: other.to_owned() });
            }
        };
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        if rest.is_empty() || rest.starts_with(['/', ':', '?']) {
            return Err(BadChoice::NoHost(url.to_owned()));
        }
        let uri: Uri = url.parse().map_err(|_| BadChoice::NotAUrl(url.to_owned()))?;
        let authority = uri.authority().ok_or_else(|| BadChoice::NoHost(url.to_owned()))?;
        if authority.as_str().contains('@') {
            return Err(BadChoice::UserInfo);
        }
        if uri.query().is_some() {
            return Err(BadChoice::Query(url.to_owned()));
        }
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, digits)) if !digits.contains(']') => {
                digits.parse().ok().filter(|p| *p != 0).ok_or_else(|| BadChoice::NotAUrl(url.to_owned()))?
            }
            Some(_) | None if tls => HTTPS_PORT,
            Some(_) | None => DEFAULT_PORT,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err(BadChoice::NoHost(url.to_owned()));
        }
        Ok(Self { tls, host, port, base: uri.path().trim_end_matches('/').to_owned(), pin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_shown_as_it_was_written() {
        for text in [
            "file:/srv/party",
            "file:C:\\party",
            "server:http://example.org:8667",
            "server:http://[::1]:80/x",
            "direct",
            "direct:203.0.113.5:4000,[2001:db8::1]:4000",
            "server:https://example.org",
            "server:https://10.0.0.1:8443#sha256=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        ] {
            assert_eq!(text.parse::<ControlChoice>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_address_is_taken_apart() {
        let address = |url: &str| {
            let a: ServerAddress = url.parse().unwrap();
            (a.authority(), a.base)
        };
        let pinned: ServerAddress = format!("https://a#sha256={}", Pin([7; 32])).parse().unwrap();
        assert_eq!((pinned.tls, pinned.pin, pinned.port), (true, Some(Pin([7; 32])), 443));
        assert_eq!(address("http://Example.org"), ("example.org:8667".into(), String::new()));
        assert_eq!(address("http://10.0.0.1:80/"), ("10.0.0.1:80".into(), String::new()));
        assert_eq!(address("http://[::1]"), ("[::1]:8667".into(), String::new()));
        assert_eq!(address("https://Example.org"), ("example.org:443".into(), String::new()));
        assert_eq!(address("HTTP://[fe80::1]:99/lan/"), ("[fe80::1]:99".into(), "/lan".into()));
    }

    #[test]
    fn every_mistake_has_its_own_words() {
        let why = |text: &str| text.parse::<ControlChoice>().unwrap_err();
        assert!(matches!(why("folder:/x"), BadChoice::Kind(_)));
        assert_eq!(why("file:"), BadChoice::NoFolder);
        for bad in ["direct:", "direct:example.org:1", "direct:10.0.0.1:0", "direct:10.0.0.1"] {
            assert!(matches!(why(bad), BadChoice::NotAnAddress(_)), "{bad}");
        }
        assert!(matches!(why("server:https://a#sha256=00"), BadChoice::Pin { .. }));
        assert!(matches!(why("server:https://a#x"), BadChoice::Fragment(_)));
        let pin = Pin([7; 32]);
        assert!(matches!(why(&format!("server:http://a#sha256={pin}")), BadChoice::PinWithoutTls(_)));
        assert!(matches!(why("server:ftp://a"), BadChoice::Scheme { .. }));
        assert!(matches!(why("server:example.org"), BadChoice::NotAUrl(_)));
        assert!(matches!(why("server:http://"), BadChoice::NoHost(_)));
        assert!(matches!(why("server:http:///x"), BadChoice::NoHost(_)));
        assert!(matches!(why("server:http://:80"), BadChoice::NoHost(_)));
        assert!(matches!(why("server:http://a:99999"), BadChoice::NotAUrl(_)));
        assert!(matches!(why("server:http://a:0"), BadChoice::NotAUrl(_)));
        assert!(matches!(why("server:http://u:p@a"), BadChoice::UserInfo));
        assert!(matches!(why("server:http://a/?x"), BadChoice::Query(_)));
        assert!(matches!(why("server:http://a b"), BadChoice::NotAUrl(_)));
    }
}
