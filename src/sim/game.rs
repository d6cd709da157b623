//! Game programs as far as a LAN sees them: who announces, who asks, who answers, who listens, and what they say.
//!
//! Every packet carries its number, so that a lost one, a doubled one and one that went astray are told apart. Some
//! announcers say the same words every time on purpose, as real games do: what swallows a repeat shows in the count.

use crate::wire::packet::{PacketView, fix_checksums, proto, write_udp};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Minecraft's group and port for announcements.
pub const GROUP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(224, 0, 2, 60)), 4445);
/// The port of OpenArena, for server and client alike.
pub const ARENA: u16 = 27960;
/// Ports that no game uses and nobody may reach.
pub const DOORS: [u16; 2] = [22, 8080];

/// A game that the simulated players have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Title {
    /// Announces itself by multicast.
    Minecraft,
    /// Is asked by broadcast and answers the asker.
    OpenArena,
}

impl Title {
    /// The id of its profile.
    #[must_use]
    pub const fn profile(self) -> &'static str {
        match self {
            Self::Minecraft => "minecraft-java",
            Self::OpenArena => "openarena",
        }
    }
}

/// By which cards a game sends its broadcasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// By the one the system prefers.
    Default,
    /// By each, the tunnel's included.
    Every,
}

/// A program on a simulated computer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// An open world: announces itself, and takes TCP connections.
    Announcer {
        /// The world's own TCP port.
        port: u16,
        /// The UDP port the announcements leave from.
        from: u16,
        /// Between announcements.
        period: Duration,
        /// By which cards.
        how: How,
        /// The number it always says, if it says the same every time.
        always: Option<u64>,
    },
    /// The list of worlds in a game's menu: joined to the group on the default card.
    Listener,
    /// An OpenArena server.
    Server,
    /// An OpenArena client that asks when told.
    Client {
        /// Its UDP port.
        from: u16,
    },
    /// Services that are nobody's business.
    Doors,
}

impl Program {
    /// Whose game it belongs to.
    #[must_use]
    pub const fn title(&self) -> Option<Title> {
        match self {
            Self::Announcer { .. } | Self::Listener => Some(Title::Minecraft),
            Self::Server | Self::Client { .. } => Some(Title::OpenArena),
            Self::Doors => None,
        }
    }

    /// Whether a packet to this port of this computer reaches it; groups are the caller's business.
    #[must_use]
    pub fn is_bound(&self, transport: u8, port: u16) -> bool {
        match self {
            Self::Announcer { port: own, .. } => transport == proto::TCP && port == *own,
            Self::Listener => transport == proto::UDP && port == GROUP.port(),
            Self::Server => transport == proto::UDP && port == ARENA,
            Self::Client { from } => transport == proto::UDP && port == *from,
            Self::Doors => DOORS.contains(&port),
        }
    }

    /// Whether it joined this group.
    #[must_use]
    pub fn has_joined(&self, group: IpAddr) -> bool {
        *self == Self::Listener && group == GROUP.ip()
    }
}

/// What a packet of a game is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A world's announcement.
    Announcement,
    /// A client's question.
    Query,
    /// A server's answer.
    Answer,
    /// The first segment of a TCP connection.
    Syn,
    /// The answer to it.
    SynAck,
    /// A UDP datagram to a door.
    Knock,
}

/// What is said, with its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Saying {
    /// What it is.
    pub what: What,
    /// Which one.
    pub mark: u64,
}

impl Saying {
    /// The payload of a UDP packet that says it; `port` is the announced one.
    #[must_use]
    pub fn payload(self, port: u16) -> Vec<u8> {
        let mark = self.mark;
        match self.what {
            What::Announcement => format!("[MOTD]World {mark}[/MOTD][AD]{port}[/AD]").into_bytes(),
            What::Query => [&[0xff; 4][..], format!("getinfo {mark}").as_bytes()].concat(),
            What::Answer => {
                let text = format!(
                    "infoResponse\n\\challenge\\{mark}\\protocol\\71\\hostname\\Sim\\mapname\\oa_dm1\\clients\\0\\sv_maxclients\\8"
                );
                [&[0xff; 4][..], text.as_bytes()].concat()
            }
            What::Knock | What::Syn | What::SynAck => format!("knock {mark}").into_bytes(),
        }
    }

    /// Reads what a packet says.
    #[must_use]
    pub fn of(view: &PacketView<'_>) -> Option<Self> {
        if view.proto == proto::TCP {
            let segment = view.bytes.get(view.transport_offset()..)?;
            let sequence = segment.get(4..8)?.try_into().ok()?;
            let what = if view.opens_tcp() { What::Syn } else { What::SynAck };
            return Some(Self { what, mark: u64::from(u32::from_be_bytes(sequence)) });
        }
        let payload = view.payload();
        let forms: [(What, &[u8]); 4] = [
            (What::Announcement, b"[MOTD]World "),
            (What::Query, b"\xff\xff\xff\xffgetinfo "),
            (What::Answer, b"\xff\xff\xff\xffinfoResponse\n\\challenge\\"),
            (What::Knock, b"knock "),
        ];
        let (what, rest) =
            forms.iter().find_map(|(what, start)| Some((*what, payload.strip_prefix(*start)?)))?;
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let mark = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        Some(Self { what, mark })
    }
}

/// A UDP packet; its addresses must be of one family.
#[must_use]
pub fn udp(from: SocketAddr, to: SocketAddr, ttl: u8, payload: &[u8]) -> Vec<u8> {
    let mut room = vec![0; payload.len() + 48];
    let len = write_udp(&mut room, from, to, ttl, payload).expect("room for a header and the payload");
    room.truncate(len);
    room
}

/// A TCP segment without data that opens a connection, or answers one; its number is the mark.
#[must_use]
pub fn tcp(from: SocketAddr, to: SocketAddr, mark: u64, answer: bool) -> Vec<u8> {
    let mut packet = udp(from, to, 64, &[0; 12]);
    packet[9] = proto::TCP;
    let segment = &mut packet[20..];
    let mark = u32::try_from(mark).expect("marks of connections are small").to_be_bytes();
    segment[4..8].copy_from_slice(&mark);
    segment[8..12].fill(0);
    segment[12] = 0x50;
    segment[13] = if answer { 0x12 } else { 0x02 };
    fix_checksums(&mut packet);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sayings_are_read_back_from_packets() {
        let (from, to) = ("10.1.2.3:4".parse().unwrap(), "10.1.2.4:5".parse().unwrap());
        for what in [What::Announcement, What::Query, What::Answer, What::Knock] {
            let saying = Saying { what, mark: 1234 };
            let packet = udp(from, to, 1, &saying.payload(25565));
            assert_eq!(Saying::of(&PacketView::parse(&packet).unwrap()), Some(saying));
        }
        for (answer, what) in [(false, What::Syn), (true, What::SynAck)] {
            let packet = tcp(from, to, 77, answer);
            let view = PacketView::parse(&packet).unwrap();
            assert_eq!(Saying::of(&view), Some(Saying { what, mark: 77 }));
            assert_eq!((view.proto, view.source(), view.destination()), (proto::TCP, from, to));
        }
        let other = udp(from, to, 1, b"hello");
        assert_eq!(Saying::of(&PacketView::parse(&other).unwrap()), None);
    }
}
