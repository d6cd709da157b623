//! What a server's answers mean.

use super::ask::{Ask, What};
use super::session::Session;
use super::{Stage, Turn, TurnEvent, TurnFailure, TurnIn, Up};
use crate::model::addr::Via;
use crate::model::reach::is_public;
use crate::wire::stun::{Class, Message, Method};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How often a request is made anew because of its nonce or realm, before the server is called broken.
const TURNS: u8 = 4;
/// A server that said something so short ago is alive, whatever it did not answer.
const ALIVE: Duration = Duration::from_secs(2);

impl Turn {
    /// An answer to somebody's question; not ours when the number is not.
    pub(super) fn answer(&mut self, message: &Message<'_>) -> TurnIn {
        let Some(ask) = self.asks.get(message.transaction()) else { return TurnIn::NotMine };
        if ask.what.method() != message.method() || !ask.was_sent() || !self.is_credible(ask, message) {
            return TurnIn::Taken;
        }
        let Some(ask) = self.asks.take(message.transaction()) else { return TurnIn::NotMine };
        self.heard = self.now;
        if let Some(sample) = ask.rtt(self.now) {
            self.rtt = Some(self.rtt.map_or(sample, |old| (old * 3 + sample) / 4));
        }
        if message.class() == Class::Success {
            self.succeeded(ask, message);
        } else {
            self.refused(ask, message);
        }
        TurnIn::Taken
    }

    /// Whether it is signed where it must be (RFC 8489, section 9.2.5). What comes as an answer to an unsigned request,
    /// and the two refusals that ask for another signature, cannot be.
    fn is_credible(&self, ask: &Ask, message: &Message<'_>) -> bool {
        let code = message.error().map(|(code, _)| code);
        if !ask.signed || message.class() == Class::Error && matches!(code, Some(401 | 438)) {
            return true;
        }
        self.session.as_ref().is_some_and(|s| message.verify(&s.key))
    }

    fn succeeded(&mut self, ask: Ask, message: &Message<'_>) {
        match ask.what {
            What::Allocate => self.allocated(message),
            What::Refresh => self.refreshed(message),
            What::Close => self.stage = Stage::Down,
            What::Evict => self.allocate(),
            What::Permit(ips) => self.peers.granted(&ips, self.now),
            What::Bind(peer, _) => self.peers.bound(peer, self.now),
            What::Binding => {
                if let Some(mapped) = message.mapped() {
                    self.seen_at(mapped);
                }
            }
        }
    }

    fn allocated(&mut self, message: &Message<'_>) {
        let (Some(relayed), Some(mapped), Some(lifetime)) =
            (message.relayed(), message.mapped(), message.lifetime())
        else {
            return self.fail(TurnFailure::Malformed);
        };
        if relayed.is_ipv6() != self.v6 || relayed.port() == 0 || lifetime.is_zero() {
            return self.fail(TurnFailure::Malformed);
        }
        self.peers.reset();
        self.tries.evict = false;
        let up = Up {
            relayed,
            since: self.now,
            refresh: self.now + refresh_after(lifetime),
            expires: self.now + lifetime,
        };
        self.stage = Stage::Up(up);
        if self.mapped.replace(mapped).is_some_and(|old| old != mapped) {
            self.tell(TurnEvent::Mapped(mapped));
        }
        let rtt = self.rtt.unwrap_or_default();
        self.tell(TurnEvent::Allocated { relayed, mapped, rtt, lifetime });
    }

    fn refreshed(&mut self, message: &Message<'_>) {
        let lifetime = message.lifetime().unwrap_or(super::LIFETIME);
        if lifetime.is_zero() {
            return self.reallocate(TurnFailure::Gone);
        }
        if let Stage::Up(up) = &mut self.stage {
            (up.refresh, up.expires) = (self.now + refresh_after(lifetime), self.now + lifetime);
        }
    }

    /// The server saw us at this address. An allocation belongs to the address it was made from.
    fn seen_at(&mut self, mapped: SocketAddr) {
        if self.mapped.replace(mapped).is_some_and(|old| old != mapped) {
            self.tell(TurnEvent::Mapped(mapped));
            if matches!(self.stage, Stage::Up(_)) {
                self.reallocate(TurnFailure::Gone);
            }
        }
    }

    fn refused(&mut self, ask: Ask, message: &Message<'_>) {
        let Some((code, _)) = message.error() else { return self.hopeless(ask, TurnFailure::Malformed) };
        match (code, &ask.what) {
            (401, _) => self.unauthorized(ask, message),
            (438, _) => self.stale(ask, message),
            (300, What::Allocate) => self.sent_elsewhere(message),
            (_, What::Binding) => {}
            (437, What::Allocate) if !self.tries.evict => {
                self.tries.evict = true;
                self.ask(What::Evict);
            }
            // What was in the way is gone by itself.
            (437, What::Evict) => self.allocate(),
            (437, What::Refresh | What::Permit(_) | What::Bind(..)) => self.reallocate(TurnFailure::Gone),
            (437, What::Close) => self.stage = Stage::Down,
            (441, What::Refresh | What::Permit(_) | What::Bind(..)) if self.has_fresh_account() => {
                self.reallocate(TurnFailure::Credentials);
            }
            (441, What::Refresh | What::Permit(_) | What::Bind(..)) => {
                self.hopeless(ask, TurnFailure::Mismatch)
            }
            (_, What::Permit(_) | What::Bind(..)) => self.not_permitted(ask.what),
            (_, What::Allocate | What::Refresh | What::Close | What::Evict) => {
                self.hopeless(ask, TurnFailure::of_code(code));
            }
        }
    }

    fn not_permitted(&mut self, what: What) {
        match what {
            What::Permit(ips) => self.peers.not_granted(&ips, self.now),
            What::Bind(peer, _) => self.peers.not_bound(peer, self.now),
            What::Allocate | What::Refresh | What::Close | What::Evict | What::Binding => {}
        }
    }

    fn has_fresh_account(&self) -> bool {
        self.session.as_ref().is_some_and(|s| s.account != self.account)
    }

    /// 401: the first time it tells realm and nonce; later, that our signature is not accepted.
    fn unauthorized(&mut self, ask: Ask, message: &Message<'_>) {
        let (Some(realm), Some(nonce)) = (message.realm(), message.nonce()) else {
            return self.hopeless(ask, TurnFailure::Malformed);
        };
        let known = self.session.as_ref().is_some_and(|s| s.realm == realm && s.nonce == nonce);
        if ask.signed && (known || ask.turns >= 2) {
            let of_living = matches!(ask.what, What::Refresh | What::Permit(_) | What::Bind(..));
            return if of_living && self.has_fresh_account() {
                self.reallocate(TurnFailure::Credentials);
            } else {
                self.hopeless(ask, TurnFailure::Credentials);
            };
        }
        let account = match (&self.session, &ask.what) {
            (Some(session), what) if *what != What::Allocate => session.account.clone(),
            (Some(_) | None, _) => self.account.clone(),
        };
        self.session = Some(Session::new(account, realm, nonce));
        self.ask_with(ask.what, ask.quick, ask.turns + 1);
    }

    /// 438: the same question with the new nonce.
    fn stale(&mut self, ask: Ask, message: &Message<'_>) {
        let Some(session) = &mut self.session else { return self.hopeless(ask, TurnFailure::Malformed) };
        let (Some(nonce), true) = (message.nonce(), ask.turns < TURNS) else {
            return self.hopeless(ask, TurnFailure::Refused(438));
        };
        session.nonce = nonce.to_owned();
        if let Some(realm) = message.realm().filter(|realm| *realm != session.realm) {
            *session = Session::new(session.account.clone(), realm, nonce);
        }
        self.ask_with(ask.what, ask.quick, ask.turns + 1);
    }

    /// 300: another server, once, and only where we can go by ourselves (RFC 8489, section 10).
    fn sent_elsewhere(&mut self, message: &Message<'_>) {
        let Some(to) = message.alternate_server() else { return self.fail(TurnFailure::Malformed) };
        let here = self.endpoint.to;
        // Nobody signed this: a relay on the internet (or who poses as one) sends us to no computer of our own network.
        let outward = is_public(to.ip()) || !is_public(here.ip());
        let usable =
            outward && to.is_ipv6() == here.is_ipv6() && to.port() != 0 && is_unicast(to.ip()) && to != here;
        if self.tries.alternate || !usable || !matches!(self.endpoint.via, Via::Main) {
            return self.fail(TurnFailure::Alternate(to));
        }
        self.tries.alternate = true;
        self.endpoint.to = to;
        self.session = None;
        self.rtt = None;
        self.asks.clear();
        self.allocate();
    }

    /// This refusal leaves no allocation that could be used.
    fn hopeless(&mut self, ask: Ask, why: TurnFailure) {
        match ask.what {
            What::Permit(_) | What::Bind(..) if why != TurnFailure::Credentials => {
                self.not_permitted(ask.what)
            }
            What::Close => self.stage = Stage::Down,
            What::Binding => {}
            // Whatever it was that we could not evict is somebody else's.
            What::Evict => self.fail(TurnFailure::Mismatch),
            What::Allocate | What::Refresh | What::Permit(_) | What::Bind(..) => self.fail(why),
        }
    }

    /// Nothing came in time.
    pub(super) fn unanswered(&mut self, ask: &Ask) {
        let alive = self.now.since(self.heard) < ALIVE && !ask.quick;
        match (ask.what.method(), alive) {
            (Method::CreatePermission | Method::ChannelBind, true) => self.not_permitted(ask.what.clone()),
            (Method::Binding, true) => {}
            _ if ask.what == What::Close => self.stage = Stage::Down,
            _ => self.fail(TurnFailure::Silent),
        }
    }
}

/// A minute before the end, but never later than half way.
fn refresh_after(lifetime: Duration) -> Duration {
    lifetime.saturating_sub(Duration::from_secs(60)).min(lifetime / 2).max(Duration::from_secs(1))
}

fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_multicast() && !v6.is_unspecified(),
    }
}
