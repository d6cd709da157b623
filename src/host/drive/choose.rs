//! Which of the two LAN sides a node gets: the tunnel device or the proxy, and what people are told about it.
//!
//! `Wish::Auto` tries the device, because nothing else knows for sure whether one may be made: capabilities, containers,
//! `/dev/net/tun` and the system all have a say. Only when it is the rights or the system that say no, the proxy is taken;
//! a mistake that people can correct (a name that is taken, a clash of addresses) stays an error.
//!
//! In proxy mode the profiles tell which games stand it. When none of the chosen ones does, nothing is opened.

use super::lan::{LanMaker, LanPortLike};
use crate::buf::batch::Batch;
use crate::engine::effect::LanConfig;
use crate::engine::sink::{Delivery, LanSink};
use crate::model::addr::Card;
use crate::model::status::{Event, Mode, Trouble};
use crate::rules::ruleset::Ruleset;
use std::net::{SocketAddr, SocketAddrV4};

/// What the player wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The device where one may be made, else the proxy.
    Auto,
    /// The device, or an error.
    Lan,
    /// The proxy.
    Proxy,
}

/// A chosen game, and whether it can be played in proxy mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Playable {
    /// What people call it.
    pub name: String,
    /// What keeps it from being played in proxy mode; `None` when nothing is known to.
    pub not_by_proxy: Option<String>,
}

/// Makes what is wished for, `D` or `P`.
#[derive(Debug)]
pub struct Chooser<D, P> {
    wish: Wish,
    device: D,
    proxy: P,
    games: Vec<Playable>,
    news: Vec<Event>,
}

impl<D: LanMaker, P: LanMaker> Chooser<D, P> {
    /// Chooses between these two for these games.
    pub const fn new(wish: Wish, device: D, proxy: P, games: Vec<Playable>) -> Self {
        Self { wish, device, proxy, games, news: Vec::new() }
    }

    fn by_device(&mut self, config: &LanConfig, why: &str) -> Result<Chosen<D::Port, P::Port>, Trouble> {
        let port = self.device.open(config)?;
        self.news = vec![told(Mode::Lan, why, "")];
        self.news.extend(self.device.take_news());
        Ok(Chosen::Lan(port))
    }

    /// `refused`: the device was tried, and this is why there is none.
    fn by_proxy(
        &mut self,
        config: &LanConfig,
        refused: Option<&Trouble>,
    ) -> Result<Chosen<D::Port, P::Port>, Trouble> {
        let missing = refused.map(|r| missing(&r.code));
        if let Some(trouble) = nothing_works(&self.games, missing) {
            return Err(trouble);
        }
        let port = self.proxy.open(config)?;
        let hint = missing.map_or("", |m| m.rights);
        self.news = vec![told(Mode::Proxy, missing.map_or(ASKED, |m| m.why), hint)];
        self.news.extend(self.games.iter().filter_map(|game| deaf(game, missing)).map(Event::Warning));
        self.news.extend(self.proxy.take_news());
        Ok(Chosen::Proxy(port))
    }
}

impl<D: LanMaker, P: LanMaker> LanMaker for Chooser<D, P> {
    type Port = Chosen<D::Port, P::Port>;

    fn open(&mut self, config: &LanConfig) -> Result<Self::Port, Trouble> {
        match self.wish {
            Wish::Lan => self.by_device(config, ASKED),
            Wish::Proxy => self.by_proxy(config, None),
            Wish::Auto => match self.by_device(config, "this user may make one") {
                Err(refused) if CANNOT.contains(&refused.code.as_str()) => {
                    self.by_proxy(config, Some(&refused))
                }
                decided => decided,
            },
        }
    }

    fn take_news(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.news)
    }
}

const ASKED: &str = "as asked for";
/// Codes of a device that cannot be made here, whatever its settings.
const CANNOT: [&str; 3] = ["no_tun_rights", "no_tun", "not_on_this_system"];

/// What keeps this user from a device, and what would change that.
#[derive(Debug, Clone, Copy)]
struct Missing {
    why: &'static str,
    rights: &'static str,
}

fn missing(code: &str) -> Missing {
    match code {
        "no_tun" => Missing {
            why: "this system has no tunnel devices: /dev/net/tun is missing",
            rights: "with one, lan mode carries every game: sudo modprobe tun, or in a container --device /dev/net/tun",
        },
        "not_on_this_system" => Missing { why: "there is no lan mode on this system yet", rights: "" },
        _ => Missing {
            why: "this user may not make a network device",
            rights: "with that right lan mode carries every game: sudo lanrage run …, or once: sudo setcap \
                     cap_net_admin,cap_net_raw+ep $(which lanrage)",
        },
    }
}

fn told(mode: Mode, why: &str, hint: &str) -> Event {
    Event::Mode { mode, why: why.to_owned(), hint: hint.to_owned() }
}

/// How a player gets to play a game that the proxy cannot stand for.
fn way_out(missing: Option<Missing>) -> String {
    match missing {
        None => "start without --mode proxy and --share-lan, with the right to make a network device (sudo lanrage run …)"
            .to_owned(),
        Some(Missing { rights: "", .. }) => "play it where lan mode is available".to_owned(),
        Some(Missing { rights, .. }) => rights.to_owned(),
    }
}

const OTHERS: &str = "; `lanrage games list` tells which games need no rights";

/// The profile says that this game does not stand proxy mode.
fn deaf(game: &Playable, missing: Option<Missing>) -> Option<Trouble> {
    let why = game.not_by_proxy.as_ref()?;
    let what = format!("{} cannot be played in proxy mode: {why}", game.name);
    Some(Trouble::new("not_by_proxy", what, way_out(missing) + OTHERS))
}

/// Why proxy mode, where it is asked for by name, has nothing to offer to these games: to be told before anything is begun.
#[must_use]
pub fn nothing_by_proxy(games: &[Playable]) -> Option<Trouble> {
    nothing_works(games, None)
}

/// All of the chosen games are of that kind.
fn nothing_works(games: &[Playable], missing: Option<Missing>) -> Option<Trouble> {
    let whys: Vec<Trouble> = games.iter().filter_map(|game| deaf(game, missing)).collect();
    if whys.is_empty() || whys.len() < games.len() {
        return None;
    }
    let what: Vec<&str> = whys.iter().map(|t| t.message.trim_end_matches('.')).collect();
    let what = what.join("; ");
    let what = missing.map_or_else(|| what.clone(), |m| format!("{what}. And {}", m.why));
    Some(Trouble::new("not_by_proxy", what, way_out(missing) + OTHERS))
}

/// One of two LAN sides.
#[derive(Debug)]
pub enum Chosen<L, P> {
    /// The device.
    Lan(L),
    /// The proxy.
    Proxy(P),
}

/// The same call, whichever it is.
macro_rules! either {
    ($self:expr, $port:ident => $call:expr) => {
        match $self {
            Chosen::Lan($port) => $call,
            Chosen::Proxy($port) => $call,
        }
    };
}

impl<L: LanPortLike, P: LanPortLike> LanPortLike for Chosen<L, P> {
    async fn readable(&mut self) {
        either!(self, port => port.readable().await);
    }

    fn needs_runtime(&self) -> bool {
        either!(self, port => port.needs_runtime())
    }

    fn expect_many(&mut self) {
        either!(self, port => port.expect_many());
    }

    fn try_read(&mut self, batch: &mut Batch) -> usize {
        either!(self, port => port.try_read(batch))
    }

    fn flush(&mut self) {
        either!(self, port => port.flush());
    }

    fn reconfigure(&mut self, config: &LanConfig) -> Result<(), Trouble> {
        either!(self, port => port.reconfigure(config))
    }

    fn set_rules(&mut self, rules: &Ruleset) {
        either!(self, port => port.set_rules(rules));
    }

    fn set_mtu(&mut self, mtu: u16) {
        either!(self, port => port.set_mtu(mtu));
    }

    fn set_cards(&mut self, cards: &[Card]) {
        either!(self, port => port.set_cards(cards));
    }

    fn mode(&self) -> Mode {
        match self {
            Self::Lan(_) => Mode::Lan,
            Self::Proxy(_) => Mode::Proxy,
        }
    }

    fn keep_game(&mut self, at: SocketAddrV4, tcp: bool) {
        either!(self, port => port.keep_game(at, tcp));
    }

    fn local(&self, at: SocketAddrV4, tcp: bool) -> Option<SocketAddr> {
        either!(self, port => port.local(at, tcp))
    }

    fn shared(&self, at: SocketAddrV4, tcp: bool) -> Vec<SocketAddr> {
        either!(self, port => port.shared(at, tcp))
    }

    fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let (lan, proxy) = match self {
            Self::Lan(port) => (Some(port.counters()), None),
            Self::Proxy(port) => (None, Some(port.counters())),
        };
        lan.into_iter().flatten().chain(proxy.into_iter().flatten())
    }
}

impl<L: LanSink, P: LanSink> LanSink for Chosen<L, P> {
    fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        either!(self, port => port.reserve(len))
    }

    fn commit(&mut self, len: usize, how: Delivery) {
        either!(self, port => port.commit(len, how));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::addr::Subnet;
    use std::net::Ipv4Addr;

    /// A LAN side that nothing comes from.
    #[derive(Debug)]
    struct Silent;

    impl LanSink for Silent {
        fn reserve(&mut self, _: usize) -> Option<&mut [u8]> {
            None
        }
        fn commit(&mut self, _: usize, _: Delivery) {}
    }

    impl LanPortLike for Silent {
        async fn readable(&mut self) {
            std::future::pending().await
        }
        fn needs_runtime(&self) -> bool {
            true
        }
        fn try_read(&mut self, _: &mut Batch) -> usize {
            0
        }
        fn flush(&mut self) {}
        fn reconfigure(&mut self, _: &LanConfig) -> Result<(), Trouble> {
            Ok(())
        }
        fn set_rules(&mut self, _: &Ruleset) {}
        fn set_mtu(&mut self, _: u16) {}
        fn set_cards(&mut self, _: &[Card]) {}
    }

    /// Opens, or fails with this code; how often it was asked.
    struct Maker(Option<&'static str>, u32);

    impl LanMaker for Maker {
        type Port = Silent;
        fn open(&mut self, _: &LanConfig) -> Result<Silent, Trouble> {
            self.1 += 1;
            self.0.map_or(Ok(Silent), |code| Err(Trouble::new(code, "no", "")))
        }
    }

    fn config() -> LanConfig {
        let v4 = Ipv4Addr::new(10, 1, 2, 3);
        LanConfig { v4, subnet: Subnet([10, 1, 2]), v6: v4.to_ipv6_mapped(), mtu: 1280 }
    }

    fn game(name: &str, why: Option<&str>) -> Playable {
        Playable { name: name.into(), not_by_proxy: why.map(Into::into) }
    }

    type Outcome = (Result<Mode, Trouble>, Vec<Event>, (u32, u32));

    fn choose(wish: Wish, device: Option<&'static str>, games: &[Playable]) -> Outcome {
        let mut chooser = Chooser::new(wish, Maker(device, 0), Maker(None, 0), games.to_vec());
        let made = chooser.open(&config()).map(|port| port.mode());
        let news = chooser.take_news();
        assert!(chooser.take_news().is_empty(), "told once");
        (made, news, (chooser.device.1, chooser.proxy.1))
    }

    fn reason(news: &[Event]) -> (Mode, String, String) {
        let Some(Event::Mode { mode, why, hint }) = news.first() else { panic!("no mode in {news:?}") };
        (*mode, why.clone(), hint.clone())
    }

    #[test]
    fn auto_is_lan_where_a_device_may_be_made_and_says_so() {
        let (made, news, asked) = choose(Wish::Auto, None, &[]);
        assert_eq!((made, asked), (Ok(Mode::Lan), (1, 0)));
        assert_eq!(reason(&news), (Mode::Lan, "this user may make one".into(), String::new()));
    }

    #[test]
    fn auto_is_proxy_without_rights_or_devices_and_says_what_rights_would_add() {
        for code in CANNOT {
            let (made, news, asked) = choose(Wish::Auto, Some(code), &[game("A", None)]);
            assert_eq!((made, asked), (Ok(Mode::Proxy), (1, 1)));
            assert_eq!(news.len(), 1, "no warnings: {news:?}");
            let (mode, why, _) = reason(&news);
            assert!(mode == Mode::Proxy && why != ASKED, "{why}");
        }
        let (_, news, _) = choose(Wish::Auto, Some("no_tun_rights"), &[]);
        assert!(reason(&news).2.contains("setcap"), "{news:?}");
    }

    #[test]
    fn mistakes_that_people_can_correct_are_not_passed_over() {
        for code in ["adapter_name", "adapter_taken", "address_taken", "lan_failed"] {
            let (made, _, asked) = choose(Wish::Auto, Some(code), &[]);
            assert_eq!((made.unwrap_err().code.as_str(), asked), (code, (1, 0)));
        }
        let (made, _, asked) = choose(Wish::Lan, Some("no_tun_rights"), &[]);
        assert_eq!((made.unwrap_err().code.as_str(), asked), ("no_tun_rights", (1, 0)));
    }

    #[test]
    fn proxy_never_asks_for_a_device() {
        let (made, news, asked) = choose(Wish::Proxy, None, &[]);
        assert_eq!((made, asked), (Ok(Mode::Proxy), (0, 1)));
        assert_eq!(reason(&news), (Mode::Proxy, ASKED.into(), String::new()));
    }

    #[test]
    fn a_game_that_the_proxy_cannot_stand_for_says_why_before_anyone_tries() {
        let mixed = [game("Good", None), game("Bad", Some("Players tell each other addresses."))];
        let (made, news, _) = choose(Wish::Auto, Some("no_tun_rights"), &mixed);
        assert_eq!(made, Ok(Mode::Proxy));
        let [_, Event::Warning(told)] = &news[..] else { panic!("{news:?}") };
        assert_eq!(told.code, "not_by_proxy");
        assert!(told.message.starts_with("Bad cannot be played in proxy mode: Players tell"), "{told:?}");
        assert!(told.hint.contains("setcap") && told.hint.contains("games list"), "{told:?}");
        let (made, news, asked) = choose(Wish::Auto, None, &mixed);
        assert_eq!((made, news.len(), asked), (Ok(Mode::Lan), 1, (1, 0)), "lan mode carries both");
    }

    #[test]
    fn nothing_is_opened_when_no_chosen_game_works() {
        let bad = [game("Bad", Some("Players tell each other addresses."))];
        let (made, news, asked) = choose(Wish::Auto, Some("no_tun_rights"), &bad);
        let told = made.unwrap_err();
        assert_eq!((told.code.as_str(), news.len(), asked), ("not_by_proxy", 0, (1, 0)));
        assert!(told.message.ends_with("addresses. And this user may not make a network device"), "{told:?}");
        let (made, _, _) = choose(Wish::Proxy, None, &bad);
        let told = made.unwrap_err();
        assert!(told.hint.contains("without --mode proxy"), "{told:?}");
    }
}
