//! A certificate pin: the SHA-256 of a server's certificate (DER), for servers that vouch for themselves.
//!
//! Written as hexadecimal, as `openssl x509 -fingerprint -sha256` and browsers show it, so that people can compare; read with
//! or without their colons. In an address it stands behind `#sha256=`, where a URL has its fragment: it is for whoever
//! connects and is never sent.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

/// What stands between an address and its pin.
pub const MARK: &str = "#sha256=";

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin(pub [u8; 32]);

/// Text that is no pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a certificate's fingerprint is sha256= and 64 hexadecimal digits, as the server prints it")]
pub struct NotAPin;

impl Display for Pin {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        Display::fmt(self, f)
    }
}

impl FromStr for Pin {
    type Err = NotAPin;

    fn from_str(text: &str) -> Result<Self, NotAPin> {
        let mut pin = [0; 32];
        let mut digits = text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16));
        for byte in &mut pin {
            let mut digit = || digits.next().flatten().and_then(|d| u8::try_from(d).ok()).ok_or(NotAPin);
            *byte = digit()? << 4 | digit()?;
        }
        if digits.next().is_some() { Err(NotAPin) } else { Ok(Self(pin)) }
    }
}

/// An address and its pin, when it has one. Only `#sha256=` is a pin; any other fragment stays where it is.
///
/// # Errors
/// When what follows `#sha256=` is none.
pub fn split(url: &str) -> Result<(&str, Option<Pin>), NotAPin> {
    match url.split_once(MARK) {
        Some((url, pin)) => Ok((url, Some(pin.parse()?))),
        None => Ok((url, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_openssl_and_as_we_write_it() {
        let pin = Pin(std::array::from_fn(|n| u8::try_from(n * 7).unwrap()));
        let text = pin.to_string();
        assert_eq!((text.len(), &text[..8]), (64, "00070e15"));
        assert_eq!(text.parse(), Ok(pin));
        let colons: Vec<String> = pin.0.iter().map(|b| format!("{b:02X}")).collect();
        assert_eq!(colons.join(":").parse(), Ok(pin));
        for bad in ["", "00", &text[1..], &format!("{text}0"), &text.replace('0', "g")] {
            assert_eq!(bad.parse::<Pin>(), Err(NotAPin), "{bad}");
        }
    }

    #[test]
    fn an_address_is_parted_from_its_pin() {
        let pin = Pin([0xab; 32]);
        assert_eq!(split(&format!("https://h:1/x#sha256={pin}")), Ok(("https://h:1/x", Some(pin))));
        assert_eq!(split("https://h#else"), Ok(("https://h#else", None)));
        assert_eq!(split("https://h#sha256=12"), Err(NotAPin));
    }
}
