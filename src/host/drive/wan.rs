//! What a node's effects and facts mean to its sockets: extra ones are opened and closed, and people hear when there
//! are too few of them or when the address that they chose with `--listen` is gone.

use crate::host::udp::Sockets;
use crate::model::addr::Card;
use crate::model::status::Trouble;
use std::net::IpAddr;
use std::rc::Rc;

/// The tunnel's sockets as the rig holds them.
#[derive(Debug)]
pub(super) struct Wan {
    sockets: Rc<Sockets>,
    /// Addresses that a socket is bound to, and whether a card had them when last looked at.
    named: Vec<(IpAddr, bool)>,
    /// People know already that there are too few.
    told: bool,
}

impl Wan {
    pub(super) fn new(sockets: Rc<Sockets>) -> Self {
        let mut named: Vec<IpAddr> = sockets.local_addrs().iter().map(|a| a.ip()).collect();
        named.retain(|ip| !ip.is_unspecified() && !ip.is_loopback());
        named.sort_unstable();
        named.dedup();
        Self { sockets, named: named.into_iter().map(|ip| (ip, false)).collect(), told: false }
    }

    /// Opens extra sockets; a warning when it was not all of them.
    pub(super) fn open(&mut self, first: u16, count: u16, v6: bool) -> Option<Trouble> {
        let (open, why) = self.sockets.open_extra(first, count, v6);
        tracing::debug!(first, count, v6, open, all = self.sockets.extra_len(), "extra sockets opened");
        let why = why.filter(|_| open < count);
        let news = !std::mem::replace(&mut self.told, why.is_some());
        let why = why.filter(|_| news)?;
        let what =
            format!("only {open} of {count} sockets for getting past a strict router were opened: {why}");
        let hint = "raise the limit of open files (`ulimit -n`) or close other programs; a path by a relay works \
                    without them";
        Some(Trouble::new("few_sockets", what, hint))
    }

    /// Closes extra sockets.
    pub(super) fn close(&self, first: u16, count: u16, keep: Option<u16>) {
        self.sockets.close_extra(first, count, keep);
        tracing::debug!(first, count, ?keep, all = self.sockets.extra_len(), "extra sockets closed");
    }

    /// A warning for each address of `--listen` that this computer has no more.
    pub(super) fn heed_cards(&mut self, cards: &[Card]) -> Vec<Trouble> {
        let mut gone = Vec::new();
        for (ip, was_there) in &mut self.named {
            let is_there = cards.iter().flat_map(|c| &c.nets).any(|net| net.addr == *ip);
            if std::mem::replace(was_there, is_there) && !is_there {
                let what = format!("this computer does not have the address {ip} of --listen any more");
                let hint = "until it has it again, nobody reaches you there; without --listen, lanrage uses \
                            whatever address there is";
                gone.push(Trouble::new("listen_address_gone", what, hint));
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::addr::Net;
    use crate::model::id::CardId;

    fn card(addr: &str) -> Card {
        let nets = vec![Net { addr: addr.parse().unwrap(), prefix: 24 }];
        Card { id: CardId(2), name: "eth0".into(), nets, default_route: true }
    }

    #[test]
    fn a_chosen_address_that_vanishes_is_told_once_each_time() {
        let named = vec![("192.0.2.7".parse().unwrap(), false)];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let bound = crate::host::udp::bind(&["127.0.0.1:0".parse().unwrap()], None).unwrap();
        let mut wan = Wan::new(Sockets::open(bound).unwrap());
        assert!(wan.named.is_empty(), "the loopback's addresses do not vanish");
        wan.named = named;
        let mut codes = |addr: &str| -> Vec<String> {
            wan.heed_cards(&[card(addr)]).into_iter().map(|t| t.code).collect()
        };
        assert!(codes("198.51.100.1").is_empty(), "never seen on a card: not known to be gone");
        assert!(codes("192.0.2.7").is_empty());
        assert_eq!(codes("198.51.100.1"), ["listen_address_gone"]);
        assert!(codes("198.51.100.1").is_empty());
        assert!(codes("192.0.2.7").is_empty());
        assert_eq!(codes("198.51.100.2"), ["listen_address_gone"]);
    }
}
