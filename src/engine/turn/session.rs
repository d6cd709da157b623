//! Who we are to a relay, and the requests that say so.

use super::ask::What;
use crate::wire::stun::{Builder, Class, Key, Method, PADDED, Transaction, Unwritable};
use std::time::Duration;

/// The longest request: two texts of 763 bytes from the server, our name, and 16 IPv6 peers.
const ROOM: usize = 3_072;

/// A user name and password, and the realm they are for where that is known.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) username: String,
    pub(super) password: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").finish_non_exhaustive()
    }
}

/// An account with the server's realm and its present nonce (RFC 8489, section 9.2).
#[derive(Debug)]
pub(super) struct Session {
    pub(super) account: Account,
    pub(super) realm: String,
    pub(super) nonce: String,
    pub(super) key: Key,
}

impl Session {
    pub(super) fn new(account: Account, realm: &str, nonce: &str) -> Self {
        let key = Key::long_term(&account.username, realm, &account.password);
        Self { account, realm: realm.to_owned(), nonce: nonce.to_owned(), key }
    }
}

/// Writes a request, signed when there is a session.
pub(super) fn request(
    what: &What,
    id: Transaction,
    session: Option<&Session>,
    v6: bool,
) -> Result<Vec<u8>, Unwritable> {
    let mut room = vec![0; ROOM];
    let b = Builder::new(&mut room, what.method(), Class::Request, id);
    let b = match what {
        // Without the attribute a relay gives an IPv4 address (RFC 8656, section 7.2); not all know the attribute.
        What::Allocate if v6 => b.requested_transport_udp().requested_family(true),
        What::Allocate => b.requested_transport_udp(),
        What::Refresh if v6 => b.lifetime(super::LIFETIME).requested_family(true),
        What::Refresh => b.lifetime(super::LIFETIME),
        What::Close | What::Evict => b.lifetime(Duration::ZERO),
        What::Permit(ips) => ips.iter().fold(b, |b, ip| b.peer((*ip, 0).into())),
        What::Bind(peer, channel) => b.channel(*channel).peer(*peer),
        What::Binding => b,
    };
    let b = match session.filter(|_| what.method() != Method::Binding) {
        Some(s) => b.username(&s.account.username).realm(&s.realm).nonce(&s.nonce).sign(&s.key),
        None => b.software(PADDED),
    };
    let len = b.finish()?;
    room.truncate(len);
    Ok(room)
}
