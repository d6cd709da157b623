//! A server's round: the plain question, the filtering tests, its other addresses, and what follows from the answers.

use super::{Ask, BEAT, Phase, Probe, RETRY_FIRST, TEST_GAP, TEST_GRACE, What};
use crate::engine::nat::judge::{self, Contact, Seen, Trial};
use crate::model::nat::{Filtering, Mapping, NatFacts, PortRule};
use crate::model::time::Mono;
use crate::wire::stun::{Class, Message};
use std::collections::BTreeMap;
use std::net::SocketAddr;

impl Probe {
    /// An answer to a plain question.
    pub(super) fn plain(&mut self, ask: &Ask, message: &Message<'_>) {
        let v6 = ask.to.is_ipv6();
        let now = self.now;
        let (sent, order) = ask.sent.unwrap_or((now, self.order));
        let family = self.family_mut(v6);
        family.shaken = false;
        family.beat = Some(now + BEAT);
        self.change(v6, |f| f.facts.udp = Some(true));
        let mapped = message.mapped().filter(|m| m.is_ipv6() == v6 && message.class() == Class::Success);
        if let Some(mapped) = mapped {
            self.note(Seen { to: ask.to, mapped, order, when: sent });
            let family = self.family_mut(v6);
            family.confirmed = family.confirmed.max(sent);
            if let Some(at) = family.missing.iter().position(|(there, _)| *there == ask.to) {
                let (_, contact) = family.missing.remove(at);
                family.trials.push(Trial { contact, came: false });
            }
        }
        let Some(server) = self.servers.iter_mut().find(|s| s.addr == ask.to) else {
            return self.judge(v6);
        };
        server.rtt = now.since(sent);
        server.other = message.other_address().filter(|o| o.is_ipv6() == v6 && o.port() != 0);
        let (fresh, more) =
            (matches!(server.phase, Phase::Asking | Phase::Silent(..)), server.other.is_some());
        if fresh {
            server.phase = Phase::Done;
        }
        let at_rest = server.phase == Phase::Done && mapped.is_some();
        self.judge(v6);
        // What was asked last time may have got lost.
        let known = self.family(v6).facts.mapping;
        let again = more && matches!(known, Mapping::Unknown | Mapping::Dependent);
        if at_rest && (fresh || again) && !self.start_tests(ask.to) {
            self.ask_others(ask.to);
        }
    }

    /// Nobody answered a question in time.
    pub(super) fn unanswered(&mut self, ask: &Ask) {
        let v6 = ask.to.is_ipv6();
        match ask.what {
            What::Hairpin => self.change(v6, |f| f.facts.hairpin = f.facts.hairpin.or(Some(false))),
            // The end of all tests counts, not that of each.
            What::From(_) => {}
            What::Plain => {
                let retry = Phase::Silent(self.now + RETRY_FIRST, RETRY_FIRST * 2);
                if let Some(server) = self.servers.iter_mut().find(|s| s.addr == ask.to)
                    && !matches!(server.phase, Phase::Silent(..))
                {
                    server.phase = retry;
                }
                self.silent(ask.to);
            }
        }
    }

    /// One destination is silent. When all are, UDP is blocked, unless it once worked from where we are.
    pub(super) fn silent(&mut self, to: SocketAddr) {
        let v6 = to.is_ipv6();
        let mut own = self.servers.iter().filter(|s| s.addr.is_ipv6() == v6);
        let all = own.all(|s| matches!(s.phase, Phase::Silent(..)));
        self.retire(to);
        let family = self.family_mut(v6);
        if all && (family.facts.udp.is_none() || family.shaken) {
            family.anchor = None;
            self.change(v6, |f| f.facts = NatFacts { udp: Some(false), ..NatFacts::default() });
        }
    }

    /// Asks a server to answer from elsewhere; false when it cannot, or when another did.
    pub(super) fn start_tests(&mut self, addr: SocketAddr) -> bool {
        let Some((rtt, Some(other))) = self.servers.iter().find(|s| s.addr == addr).map(|s| (s.rtt, s.other))
        else {
            return false;
        };
        let family = self.family_mut(addr.is_ipv6());
        if family.tester.is_some() || family.facts.filtering != Filtering::Unknown {
            return false;
        }
        let port = SocketAddr::new(addr.ip(), other.port());
        let places: Vec<SocketAddr> = [other, port]
            .into_iter()
            .filter(|there| *there != addr && contact(&family.contacted, *there) != Contact::Exact)
            .collect();
        if places.is_empty() {
            return false;
        }
        family.tester = Some(addr);
        for there in places {
            self.ask(What::From(there), addr);
        }
        let until = self.now + TEST_GAP * 2 + rtt * 3 / 2 + TEST_GRACE;
        self.set_phase(addr, Phase::Testing(until));
        true
    }

    /// A test has a result; `None`: the server does not do it.
    pub(super) fn tested(&mut self, server: SocketAddr, there: SocketAddr, came: Option<bool>) {
        let family = self.family_mut(server.is_ipv6());
        let contact = contact(&family.contacted, there);
        family.trials.extend(came.map(|came| Trial { contact, came }));
        if !self.asks.iter().any(|a| a.to == server && matches!(a.what, What::From(_))) {
            self.end_tests(server);
        }
    }

    pub(super) fn end_tests(&mut self, server: SocketAddr) {
        if !self.servers.iter().any(|s| s.addr == server && matches!(s.phase, Phase::Testing(_))) {
            return;
        }
        self.set_phase(server, Phase::Done);
        let of_server = |a: &Ask| match a.what {
            What::From(there) if a.to == server => Some(there),
            What::From(_) | What::Plain | What::Hairpin => None,
        };
        let silent: Vec<SocketAddr> = self.asks.iter().filter_map(of_server).collect();
        self.asks.retain(|a| of_server(a).is_none());
        let family = self.family_mut(server.is_ipv6());
        for there in silent {
            let contact = contact(&family.contacted, there);
            family.missing.push((there, contact));
        }
        self.ask_others(server);
        self.judge(server.is_ipv6());
    }

    /// Asks the server's other ports and addresses plainly, as far as that could tell something new.
    pub(super) fn ask_others(&mut self, server: SocketAddr) {
        let v6 = server.is_ipv6();
        let facts = self.family(v6).facts;
        let open = match facts.mapping {
            Mapping::Unknown | Mapping::Dependent => true,
            Mapping::None | Mapping::EndpointIndependent => false,
            Mapping::AddressDependent | Mapping::AddressAndPortDependent => {
                matches!(facts.ports, PortRule::Unknown | PortRule::Sequential(_))
            }
        };
        if !open && self.family(v6).tester != Some(server) {
            return;
        }
        let other = self.servers.iter().find(|s| s.addr == server).and_then(|s| s.other);
        let others = match other {
            Some(o) => {
                vec![SocketAddr::new(server.ip(), o.port()), SocketAddr::new(o.ip(), server.port()), o]
            }
            // Many servers listen on the next port too; if not, nothing is lost.
            None => {
                server.port().checked_add(1).map(|p| SocketAddr::new(server.ip(), p)).into_iter().collect()
            }
        };
        for to in others.into_iter().filter(|to| *to != server) {
            self.ask(What::Plain, to);
        }
    }

    /// Draws conclusions from what was seen.
    pub(super) fn judge(&mut self, v6: bool) {
        let (locals, port) = (std::mem::take(&mut self.locals), self.local_port);
        self.change(v6, |family| {
            let seen = judge::together(&family.seen);
            let mapping = judge::mapping(&seen, &locals);
            if mapping != Mapping::Unknown {
                family.facts.mapping = mapping;
            }
            let ports = judge::ports(&seen, port);
            if ports != PortRule::Unknown {
                family.facts.ports = ports;
            }
            let filtering = judge::filtering(&family.trials);
            if filtering != Filtering::Unknown {
                family.facts.filtering = filtering;
            }
        });
        self.locals = locals;
        let facts = self.family(v6).facts;
        // A mapping per destination lets nobody in whom we did not send to: the test would only show that.
        if let (Mapping::EndpointIndependent, None, Some(public)) =
            (facts.mapping, facts.hairpin, facts.public)
        {
            self.ask(What::Hairpin, public);
        }
    }
}

fn contact(contacted: &BTreeMap<SocketAddr, Mono>, there: SocketAddr) -> Contact {
    if contacted.contains_key(&there) {
        Contact::Exact
    } else if contacted.keys().any(|c| c.ip() == there.ip()) {
        Contact::OtherPort
    } else {
        Contact::Never
    }
}
