//! Requests under way: sent again with doubling waits over datagrams, once over a stream, and given up in time.

use crate::model::time::{Deadline, Mono};
use crate::wire::stun::{Method, Transaction};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A relayed address.
    Allocate,
    /// Keep it; also the question whether it is still there.
    Refresh,
    /// Let it go; we are leaving.
    Close,
    /// Let go what an earlier run of ours holds on this address and port, then allocate.
    Evict,
    /// These may send to us.
    Permit(Vec<IpAddr>),
    /// A channel for a peer.
    Bind(SocketAddr, u16),
    /// What is our outside address? Also the sign of life.
    Binding,
}

impl What {
    pub(super) const fn method(&self) -> Method {
        match self {
            Self::Allocate => Method::Allocate,
            Self::Refresh | Self::Close | Self::Evict => Method::Refresh,
            Self::Permit(_) => Method::CreatePermission,
            Self::Bind(..) => Method::ChannelBind,
            Self::Binding => Method::Binding,
        }
    }
}

/// How long to wait for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Before it is sent for the second time; `None` over a stream.
    pub(super) again: Option<Duration>,
    /// In all.
    pub(super) total: Duration,
}

/// One request.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) what: What,
    pub(super) id: Transaction,
    pub(super) signed: bool,
    /// How often it was asked anew because the server wanted another nonce.
    pub(super) turns: u8,
    /// Asked in doubt: with short patience.
    pub(super) quick: bool,
    bytes: Vec<u8>,
    wait: Option<Duration>,
    next: Option<Mono>,
    until: Mono,
    sent: Option<Mono>,
    repeated: bool,
    due: bool,
}

impl Ask {
    /// A request that goes out at the next opportunity.
    pub(super) fn new(what: What, id: Transaction, bytes: Vec<u8>, patience: Patience, now: Mono) -> Self {
        Self {
            what,
            id,
            signed: false,
            turns: 0,
            quick: false,
            bytes,
            wait: patience.again,
            next: patience.again.map(|wait| now + wait),
            until: now + patience.total,
            sent: None,
            repeated: false,
            due: true,
        }
    }

    /// The round-trip time, when it is certain which copy was answered (Karn's rule).
    pub(super) fn rtt(&self, now: Mono) -> Option<Duration> {
        self.sent.filter(|_| !self.repeated).map(|sent| now.since(sent))
    }

    /// Whether the request left at least once.
    pub(super) const fn was_sent(&self) -> bool {
        self.sent.is_some()
    }
}

/// All requests under way; few.
#[derive(Debug, Default)]
pub(super) struct Asks(Vec<Ask>);

impl Asks {
    /// No longer wait than this between two copies.
    const LONGEST: Duration = Duration::from_millis(1_600);

    pub(super) fn push(&mut self, ask: Ask) {
        self.0.push(ask);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get(&self, id: Transaction) -> Option<&Ask> {
        self.0.iter().find(|a| a.id == id)
    }

    pub(super) fn take(&mut self, id: Transaction) -> Option<Ask> {
        let at = self.0.iter().position(|a| a.id == id)?;
        Some(self.0.remove(at))
    }

    /// Whether one of this method is under way.
    pub(super) fn has(&self, method: Method) -> bool {
        self.0.iter().any(|a| a.what.method() == method)
    }

    /// Whether one of this method is under way with short patience.
    pub(super) fn has_quick(&self, method: Method) -> bool {
        self.0.iter().any(|a| a.quick && a.what.method() == method)
    }

    /// Whether a copy is to be sent.
    pub(super) fn has_due(&self) -> bool {
        self.0.iter().any(|a| a.due)
    }

    /// Forgets those of this method.
    pub(super) fn forget(&mut self, method: Method) {
        self.0.retain(|a| a.what.method() != method);
    }

    /// Forgets what was asked about a peer that is not wanted any more.
    pub(super) fn forget_bind(&mut self, peer: SocketAddr) {
        self.0.retain(|a| !matches!(a.what, What::Bind(p, _) if p == peer));
    }

    /// Writes the next copy that is due.
    pub(super) fn poll(&mut self, room: &mut [u8], now: Mono) -> Option<usize> {
        let ask = self.0.iter_mut().find(|a| a.due && a.bytes.len() <= room.len())?;
        room.get_mut(..ask.bytes.len())?.copy_from_slice(&ask.bytes);
        ask.due = false;
        ask.sent = ask.sent.or(Some(now));
        Some(ask.bytes.len())
    }

    /// The clock moved on: copies become due; one request that nobody answered in time, if there is one.
    pub(super) fn tick(&mut self, now: Mono) -> Option<Ask> {
        if let Some(at) = self.0.iter().position(|a| a.until <= now) {
            return Some(self.0.remove(at));
        }
        for ask in self.0.iter_mut().filter(|a| a.next.is_some_and(|next| next <= now)) {
            ask.due = true;
            ask.repeated = true;
            let wait = (ask.wait.unwrap_or(Self::LONGEST) * 2).min(Self::LONGEST);
            ask.wait = Some(wait);
            ask.next = Some(now + wait);
        }
        None
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        let at = self.0.iter().map(|a| a.next.map_or(a.until, |next| next.min(a.until))).min()?;
        Some(Deadline::new(at, "relay request"))
    }

    #[cfg(test)]
    pub(super) fn any_id(&self) -> Transaction {
        self.0[0].id
    }
}
