//! Requests: who asks, may they, and what is done (RFC 8656, sections 7 to 12; proofs: RFC 8489, section 9.2).
//!
//! A stranger's request leaves nothing behind: the challenge (401) and the reminder (438) are made from the request alone.
//! Answers to a stranger are rationed (`ration`); answers to who has proved a credential are signed with it.

use super::allocation::{Allocation, BindError, Channels, Permissions, Stage, Waiting};
use super::reply::{self, Answer};
use super::tally::Tallied;
use super::{Client, Family, PortId, REALM, Relay, RelayEffect, RelaySink, origin};
use crate::model::time::Now;
use crate::wire::channel;
use crate::wire::credential::Claim;
use crate::wire::stun::{Class, Key, Message, Method};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// RFC 8656, section 3.2: lifetime of an allocation whose client asks for nothing, and the least it gets.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);
/// The protocol number of UDP, the only transport towards peers.
const UDP: u8 = 17;

/// Who asks, proved.
pub(super) struct Proof {
    claim: Claim,
    key: Key,
}

/// Why a request was not proved: the error code.
enum Unproved {
    Challenge(u16),
    Bad,
}

/// A refusal of a proved request: code and reason (RFC 8656, section 19).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused(u16, &'static str);

const BAD: Refused = Refused(400, "Bad Request");
const FORBIDDEN: Refused = Refused(403, "Forbidden");
const MISMATCH: Refused = Refused(437, "Allocation Mismatch");
const FAMILY_UNSUPPORTED: Refused = Refused(440, "Address Family not Supported");
const WRONG_CREDENTIALS: Refused = Refused(441, "Wrong Credentials");
const TRANSPORT: Refused = Refused(442, "Unsupported Transport Protocol");
const PEER_FAMILY: Refused = Refused(443, "Peer Address Family Mismatch");
const QUOTA: Refused = Refused(486, "Allocation Quota Reached");
const CAPACITY: Refused = Refused(508, "Insufficient Capacity");

impl Relay {
    /// Any message that is no Send indication. `length` is that of the whole datagram.
    pub(super) fn request(
        &mut self,
        client: &Client,
        message: &Message<'_>,
        length: usize,
        now: Now,
        out: &mut impl RelaySink,
    ) {
        if message.class() != Class::Request {
            return self.tally.add(Tallied::Garbage);
        }
        match message.method() {
            Method::Binding => self.binding(client, message, length, now, out),
            Method::Allocate | Method::Refresh | Method::CreatePermission | Method::ChannelBind => {
                match self.prove(client, message, now) {
                    Ok(proof) => self.proved(client, message, proof, now, out),
                    Err(why) => self.challenge(client, message, &why, length, now, out),
                }
            }
            Method::Send | Method::Data => self.tally.add(Tallied::Garbage),
        }
    }

    fn prove(&self, client: &Client, message: &Message<'_>, now: Now) -> Result<Proof, Unproved> {
        if !message.is_signed() {
            return Err(Unproved::Challenge(401));
        }
        let (Some(username), Some(realm), Some(nonce)) =
            (message.username(), message.realm(), message.nonce())
        else {
            return Err(Unproved::Bad);
        };
        if !self.mint.accepts(nonce, client, now.mono) {
            return Err(Unproved::Challenge(438));
        }
        let claim =
            self.config.secret.read(username, now.unix.as_secs()).map_err(|_| Unproved::Challenge(401))?;
        let key = Key::long_term(username, REALM, &self.config.secret.password(username));
        if realm != REALM || !message.verify(&key) {
            return Err(Unproved::Challenge(401));
        }
        Ok(Proof { claim, key })
    }

    fn challenge(
        &mut self,
        client: &Client,
        message: &Message<'_>,
        why: &Unproved,
        length: usize,
        now: Now,
        out: &mut impl RelaySink,
    ) {
        match why {
            Unproved::Challenge(code) => {
                self.tally.add(Tallied::Challenged);
                let nonce = self.mint.make(client, now.mono);
                reply::challenge(&mut self.scratch, message, *code, &nonce);
            }
            Unproved::Bad => reply::stranger_error(&mut self.scratch, message, 400),
        }
        self.answer_stranger(client, client, length, now, out);
    }

    fn proved(
        &mut self,
        client: &Client,
        message: &Message<'_>,
        proof: Proof,
        now: Now,
        out: &mut impl RelaySink,
    ) {
        let unknown = message.unknown_required();
        if !unknown.is_empty() {
            reply::unknown_signed(&mut self.scratch, message, unknown.types(), &proof.key);
            return out.to_client(client, &self.scratch);
        }
        let key = proof.key.clone();
        let answer = match message.method() {
            Method::Allocate => self.allocate(client, message, proof, now),
            Method::Refresh => self.refresh(client, message, &proof, now).map(Some),
            Method::CreatePermission => self.create_permission(client, message, &proof, now).map(Some),
            Method::ChannelBind => self.channel_bind(client, message, &proof, now).map(Some),
            Method::Binding | Method::Send | Method::Data => Ok(None),
        };
        match answer {
            Ok(None) => return,
            Ok(Some(answer)) => {
                reply::success(&mut self.scratch, message.method(), message.transaction(), &answer, &key)
            }
            Err(Refused(code, reason)) => {
                self.tally.add(match code {
                    403 => Tallied::Forbidden,
                    486 | 508 => Tallied::OverQuota,
                    _ => Tallied::Refused,
                });
                reply::error(
                    &mut self.scratch,
                    message.method(),
                    message.transaction(),
                    (code, reason),
                    &key,
                );
            }
        }
        out.to_client(client, &self.scratch);
    }

    /// `None`: answered when its port is open.
    fn allocate(
        &mut self,
        client: &Client,
        message: &Message<'_>,
        proof: Proof,
        now: Now,
    ) -> Result<Option<Answer>, Refused> {
        if let Some(port) = self.by_client.get(client).copied() {
            return self.allocate_again(port, client, message, &proof, now);
        }
        let transport = message.requested_transport().ok_or(BAD)?;
        if transport != UDP {
            return Err(TRANSPORT);
        }
        let family = match message.requested_family() {
            None | Some(1) => Family::V4,
            Some(2) => Family::V6,
            Some(_) => return Err(FAMILY_UNSUPPORTED),
        };
        if !self.config.families.contains(&family) {
            return Err(FAMILY_UNSUPPORTED);
        }
        let even = match (message.even_port(), message.reservation_token()) {
            (Some(_), Some(_)) => return Err(BAD),
            // Ports are never kept back for a later request: nothing of today asks for RTP's pairs.
            (None, Some(_)) | (Some(true), None) => return Err(CAPACITY),
            (Some(false), None) => true,
            (None, None) => false,
        };
        let port = self.take_allocation(client, message, family, proof, now)?;
        let (near, whole) = (client.server.ip(), message.dont_fragment());
        self.effects.push_back(RelayEffect::OpenPort { port, family, near, even, whole });
        Ok(None)
    }

    /// The answer to the same request was lost, or somebody asks twice.
    fn allocate_again(
        &self,
        port: PortId,
        client: &Client,
        message: &Message<'_>,
        proof: &Proof,
        now: Now,
    ) -> Result<Option<Answer>, Refused> {
        let known = self.get(port).ok_or(MISMATCH)?;
        if known.transaction != message.transaction() || known.bearer != proof.claim.bearer {
            return Err(MISMATCH);
        }
        match known.stage {
            Stage::Opening(_) => Ok(None),
            Stage::Open(relayed) => {
                let lifetime = known.expires.since(now.mono);
                Ok(Some(Answer {
                    relayed: Some(relayed),
                    mapped: Some(client.addr),
                    lifetime: Some(lifetime),
                }))
            }
        }
    }

    fn take_allocation(
        &mut self,
        client: &Client,
        message: &Message<'_>,
        family: Family,
        proof: Proof,
        now: Now,
    ) -> Result<PortId, Refused> {
        let limits = &self.config.limits;
        let bearer = proof.claim.bearer;
        if self.by_client.len() >= limits.allocations {
            return Err(CAPACITY);
        }
        if self.parties.allocations(bearer.party) >= limits.per_party
            || self.members.allocations((bearer.party, bearer.peer)) >= limits.per_peer
            || self.origins.allocations(origin(client.addr.ip())) >= limits.per_address
        {
            return Err(QUOTA);
        }
        let lifetime = self.lifetime(message.lifetime(), &proof.claim, now);
        let held = self.hold(bearer, client.addr.ip()).ok_or(CAPACITY)?;
        let allocation = Allocation {
            client: *client,
            bearer,
            family,
            stage: Stage::Opening(Box::new(Waiting { key: proof.key, lifetime })),
            transaction: message.transaction(),
            expires: now.mono + lifetime,
            held,
            permissions: Permissions::default(),
            channels: Channels::default(),
        };
        self.insert(allocation).ok_or(CAPACITY)
    }

    pub(super) fn answer_opened(
        &mut self,
        port: PortId,
        relayed: SocketAddr,
        waiting: &Waiting,
        out: &mut impl RelaySink,
    ) {
        let Some(allocation) = self.get(port) else { return };
        let (client, transaction) = (allocation.client, allocation.transaction);
        let lifetime = Some(waiting.lifetime);
        let answer = Answer { relayed: Some(relayed), mapped: Some(client.addr), lifetime };
        reply::success(&mut self.scratch, Method::Allocate, transaction, &answer, &waiting.key);
        out.to_client(&client, &self.scratch);
    }

    pub(super) fn answer_unopened(&mut self, port: PortId, out: &mut impl RelaySink) {
        let Some(allocation) = self.get(port) else { return };
        let Stage::Opening(waiting) = &allocation.stage else { return };
        let (client, transaction, key) = (allocation.client, allocation.transaction, waiting.key.clone());
        let Refused(code, reason) = CAPACITY;
        reply::error(&mut self.scratch, Method::Allocate, transaction, (code, reason), &key);
        out.to_client(&client, &self.scratch);
    }

    fn refresh(
        &mut self,
        client: &Client,
        message: &Message<'_>,
        proof: &Proof,
        now: Now,
    ) -> Result<Answer, Refused> {
        let port = self.own_allocation(client, proof, now)?;
        let family = self.get(port).map(|a| a.family);
        let asked = message.requested_family().map(|f| if f == 2 { Family::V6 } else { Family::V4 });
        if asked.is_some() && asked != family {
            return Err(PEER_FAMILY);
        }
        if message.lifetime() == Some(Duration::ZERO) {
            self.close(port);
            return Ok(Answer { lifetime: Some(Duration::ZERO), ..Answer::default() });
        }
        let lifetime = self.lifetime(message.lifetime(), &proof.claim, now);
        self.prolong(port, now.mono + lifetime);
        Ok(Answer { lifetime: Some(lifetime), ..Answer::default() })
    }

    fn create_permission(
        &mut self,
        client: &Client,
        message: &Message<'_>,
        proof: &Proof,
        now: Now,
    ) -> Result<Answer, Refused> {
        let port = self.own_allocation(client, proof, now)?;
        let most = self.config.limits.permissions;
        // A malformed one spoils them all: granted are all or none (RFC 8656, section 9.2).
        let peers: Option<Vec<IpAddr>> = message.peers().take(most + 1).map(|p| p.map(|p| p.ip())).collect();
        let peers = peers.filter(|peers| !peers.is_empty()).ok_or(BAD)?;
        for peer in &peers {
            self.check_peer(port, *peer)?;
        }
        let allocation = self.get_mut(port).ok_or(MISMATCH)?;
        if !allocation.permissions.has_room(&peers, most, now.mono) {
            return Err(CAPACITY);
        }
        for peer in peers {
            allocation.permissions.grant(peer, now.mono);
            allocation.channels.permit(peer, now.mono);
        }
        Ok(Answer::default())
    }

    fn channel_bind(
        &mut self,
        client: &Client,
        message: &Message<'_>,
        proof: &Proof,
        now: Now,
    ) -> Result<Answer, Refused> {
        let port = self.own_allocation(client, proof, now)?;
        let (Some(number), Some(peer)) = (message.channel(), message.peer()) else { return Err(BAD) };
        if !channel::READABLE.contains(&number) {
            return Err(BAD);
        }
        self.check_peer(port, peer.ip())?;
        self.check_inside(port, peer)?;
        let (permissions, channels) = (self.config.limits.permissions, self.config.limits.channels);
        let allocation = self.get_mut(port).ok_or(MISMATCH)?;
        allocation.channels.may_bind(number, peer, channels, now.mono).map_err(|e| match e {
            BindError::Taken => BAD,
            BindError::Full => CAPACITY,
        })?;
        if !allocation.permissions.has_room(&[peer.ip()], permissions, now.mono) {
            return Err(CAPACITY);
        }
        allocation.permissions.grant(peer.ip(), now.mono);
        allocation.channels.permit(peer.ip(), now.mono);
        allocation.channels.bind(number, peer, now.mono);
        Ok(Answer::default())
    }

    /// The allocation of whoever asks. Renewed credentials of the same peer are as good as the first ones; the RFC's "same
    /// username" would make every client allocate anew when its credentials are renewed.
    fn own_allocation(&self, client: &Client, proof: &Proof, now: Now) -> Result<PortId, Refused> {
        let port = self.of_client(client, now.mono).ok_or(MISMATCH)?;
        let allocation = self.get(port).ok_or(MISMATCH)?;
        if allocation.bearer == proof.claim.bearer { Ok(port) } else { Err(WRONG_CREDENTIALS) }
    }

    fn check_peer(&self, port: PortId, peer: IpAddr) -> Result<(), Refused> {
        let family = self.get(port).map(|a| a.family);
        if family != Some(Family::of(peer)) {
            return Err(PEER_FAMILY);
        }
        if self.may_be_peer(peer) { Ok(()) } else { Err(FORBIDDEN) }
    }

    /// At the server itself only ports of allocations of the same party are peers.
    fn check_inside(&self, port: PortId, peer: SocketAddr) -> Result<(), Refused> {
        let party = |port| self.get(port).map(|a| a.bearer.party);
        match self.by_relayed.get(&peer) {
            Some(other) if party(*other) == party(port) => Ok(()),
            Some(_) => Err(FORBIDDEN),
            None if self.is_own(peer.ip()) && !self.config.allow_private_peers => Err(FORBIDDEN),
            None => Ok(()),
        }
    }

    /// What a client gets of what it asks for. No allocation outlives the credentials that made it.
    fn lifetime(&self, asked: Option<Duration>, claim: &Claim, now: Now) -> Duration {
        let wished = asked.unwrap_or(DEFAULT_LIFETIME).min(self.config.limits.lifetime).max(DEFAULT_LIFETIME);
        let left = Duration::from_secs(claim.expires).saturating_sub(now.unix);
        // Whole seconds, as the answer names them.
        Duration::from_secs(wished.min(left).as_secs().max(1))
    }
}
