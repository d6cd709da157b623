//! A party of LAN sides on one computer, and games that are plain sockets.

use lanrage::buf::batch::{Batch, Source};
use lanrage::engine::effect::LanConfig;
use lanrage::engine::sink::{Delivery, LanSink};
use lanrage::host::drive::LanPortLike;
use lanrage::host::lan::proxy::{ProxyOptions, ProxyPort};
use lanrage::model::addr::{Seat, Subnet, stand_in};
use lanrage::rules::ruleset::Ruleset;
use lanrage::wire::packet::{PacketView, write_udp};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// What a loaded computer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is not there after this will not come.
const SILENCE: Duration = Duration::from_millis(300);

/// LAN sides 1 to n of the network 10.83.`net`.0/24.
pub(crate) struct Party {
    pub(crate) subnet: Subnet,
    pub(crate) ports: Vec<ProxyPort>,
    runtime: Runtime,
}

impl Party {
    pub(crate) fn new(net: u8, members: u8) -> Self {
        Self::with(net, members, &ProxyOptions::default())
    }

    pub(crate) fn with(net: u8, members: u8, options: &ProxyOptions) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let subnet = Subnet([10, 83, net]);
        let inside = runtime.enter();
        let open = |n: u8| {
            let config =
                LanConfig { v4: subnet.v4(Seat(n)), subnet, v6: "fd83::1".parse().unwrap(), mtu: 1400 };
            ProxyPort::open(options.clone(), &config).unwrap()
        };
        let ports = (1..=members).map(open).collect();
        drop(inside);
        Self { subnet, ports, runtime }
    }

    /// The rules of every side.
    pub(crate) fn set_rules(&mut self, rules: &Ruleset) {
        let _inside = self.runtime.enter();
        self.ports.iter_mut().for_each(|port| port.set_rules(rules));
    }

    pub(crate) fn virtual_at(&self, member: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.subnet.v4(Seat(member)), port)
    }

    pub(crate) fn stand_in(&self, member: u8, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(stand_in(self.subnet.v4(Seat(member))), port)
    }

    /// A packet as the engine hands it over.
    pub(crate) fn commit(&mut self, member: u8, packet: &[u8]) {
        self.commit_how(member, packet, Delivery::Tun);
    }

    pub(crate) fn commit_how(&mut self, member: u8, packet: &[u8], how: Delivery) {
        let _inside = self.runtime.enter();
        let port = &mut self.ports[usize::from(member) - 1];
        port.reserve(packet.len()).unwrap().copy_from_slice(packet);
        port.commit(packet.len(), how);
        port.flush();
    }

    /// A datagram of one member's game to a port of another's.
    pub(crate) fn packet(&mut self, from: u8, from_port: u16, (to, to_port): (u8, u16), payload: &[u8]) {
        let to = self.virtual_at(to, to_port);
        let mut room = [0; 2048];
        let from = self.virtual_at(from, from_port);
        let len = write_udp(&mut room, from.into(), to.into(), 64, payload).unwrap();
        self.carry(&room[..len]);
    }

    /// A discovery datagram of one member's game, handed to member 1.
    pub(crate) fn packet_to(&mut self, from: u8, from_port: u16, to: (Ipv4Addr, u16), payload: &[u8]) {
        let mut room = [0; 2048];
        let (from, to) = (self.virtual_at(from, from_port), SocketAddrV4::new(to.0, to.1));
        let len = write_udp(&mut room, from.into(), to.into(), 1, payload).unwrap();
        let how = if to.ip().is_multicast() { Delivery::Group } else { Delivery::Tun };
        self.commit_how(1, &room[..len], how);
    }

    fn carry(&mut self, packet: &[u8]) {
        let SocketAddr::V4(to) = PacketView::parse(packet).unwrap().destination() else { panic!("IPv4") };
        let seat = self.subnet.seat_of(*to.ip()).expect("a peer's address");
        self.commit(seat.0, packet);
    }

    /// Everything that the sides read, with where it came from.
    pub(crate) fn take(&mut self, member: u8) -> Vec<(Source, Vec<u8>)> {
        let _inside = self.runtime.enter();
        let mut batch = Batch::default();
        self.ports[usize::from(member) - 1].try_read(&mut batch);
        batch.iter_mut().map(|(source, slot)| (source, slot.packet().to_vec())).collect()
    }

    /// Carries what every side read to the side that it is for.
    pub(crate) fn pump(&mut self) {
        for member in 1..=u8::try_from(self.ports.len()).unwrap() {
            for (_, packet) in self.take(member) {
                self.carry(&packet);
            }
        }
    }

    /// What a side reads, after a moment for the system.
    pub(crate) fn read_all(&mut self, member: u8) -> Vec<(Source, Vec<u8>)> {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
        self.take(member)
    }

    /// Lets time pass, as the data loop would.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let began = Instant::now();
        while began.elapsed() < time {
            self.turn();
        }
    }

    /// The next packet that a side reads. Sleeps as the data loop does: until the side says that there is something.
    pub(crate) fn read(&mut self, member: u8) -> Vec<u8> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some((_, packet)) = self.take(member).pop() {
                return packet;
            }
            let port = &mut self.ports[usize::from(member) - 1];
            let _ = self.runtime.block_on(async { tokio::time::timeout(PATIENCE, port.readable()).await });
        }
        panic!("nothing was read: {:?}", self.ports[usize::from(member) - 1].counters());
    }

    pub(crate) fn count(&self, member: u8, name: &str) -> u64 {
        let counters = LanPortLike::counters(&self.ports[usize::from(member) - 1]);
        counters.into_iter().find(|(n, _)| *n == name).map_or(0, |(_, n)| n)
    }

    /// Lets the runtime look at its sockets, then carries what there is.
    fn turn(&mut self) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        self.pump();
    }
}

/// A game: one socket.
pub(crate) struct Game {
    pub(crate) socket: UdpSocket,
}

impl Game {
    pub(crate) fn at(address: &str) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self { socket }
    }

    /// One that shares its port with other games.
    pub(crate) fn shared(address: &str) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
        Self { socket: socket.into() }
    }

    pub(crate) fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    pub(crate) fn says(&self, text: &str, to: SocketAddrV4) {
        self.socket.send_to(text.as_bytes(), to).unwrap();
    }

    /// Becomes a member of a group on the loopback device.
    pub(crate) fn joins(&self, group: Ipv4Addr) {
        let device = socket2::InterfaceIndexOrAddress::Address(Ipv4Addr::LOCALHOST);
        socket2::SockRef::from(&self.socket).join_multicast_v4_n(&group, &device).unwrap();
    }

    /// Sends to groups by the loopback device.
    pub(crate) fn speaks_by_loopback(&self) {
        socket2::SockRef::from(&self.socket).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    }

    pub(crate) fn look(&self) -> Option<(Vec<u8>, SocketAddrV4)> {
        let mut room = [0; 2048];
        match self.socket.recv_from(&mut room) {
            Ok((len, SocketAddr::V4(from))) => Some((room[..len].to_vec(), from)),
            Ok(_) | Err(_) => None,
        }
    }

    /// The next datagram, while the party carries packets.
    pub(crate) fn hears(&self, party: &mut Party) -> (Vec<u8>, SocketAddrV4) {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(heard) = self.look() {
                return heard;
            }
            party.turn();
        }
        panic!(
            "the game hears nothing: {:?}",
            party.ports.iter().map(ProxyPort::counters).collect::<Vec<_>>()
        );
    }

    pub(crate) fn hears_nothing(&self, party: &mut Party) {
        let began = Instant::now();
        while began.elapsed() < SILENCE {
            assert_eq!(self.look(), None);
            party.turn();
        }
    }
}
