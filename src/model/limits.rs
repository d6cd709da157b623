//! Every cap in one place, each with its reason, and the worst case they add up to, checked by the compiler.

use std::time::Duration;

/// Bytes of a bulk transfer that may wait for their turn: a connection at 2 Gbit/s for 8 ms.
pub const AHEAD_BYTES: usize = 2 << 20;
/// Flows whose packets are merged for the device at once.
pub const MERGED_FLOWS: usize = 4;
/// Peers in a party: the seats of a /24 are the limit; 64 is far above any LAN party seen and keeps fan-out bounded.
pub const PEERS: usize = 64;
/// Candidate addresses in one record: a PC with eight cards of two families, and some to spare.
pub const CANDIDATES: usize = 24;
/// Profiles that one peer runs at once.
pub const GAMES: usize = 16;
/// Characters of a player's name.
pub const NAME_CHARS: usize = 32;
/// A sealed record: 24 candidates of up to 30 bytes, 16 names of up to 64, and room to grow.
pub const RECORD_BYTES: usize = 4096;
/// Bytes of one slot: 64 of head room, a 1,500-byte packet, 16 of tail room for a tag, and the rest.
pub const SLOT_BYTES: usize = 2048;
/// Head room of a slot: a lanrage frame header (20) and a WireGuard header (16), rounded up.
pub const SLOT_HEAD: usize = 64;
/// Packets of one read of the LAN side.
pub const BATCH_SLOTS: usize = 64;
/// Datagrams of one read of the WAN side.
pub const DATAGRAMS: usize = 32;
/// Small datagrams in one buffer that may be taken before a transfer in front of them.
pub const EARLY: usize = 4;
/// A received datagram buffer when the system merges datagrams (GRO).
pub const GRO_BYTES: usize = 65_535;
/// Segments that one send may carry (Linux's UDP_MAX_SEGMENTS is 64 on the kernels we support).
pub const SEGMENTS: usize = 64;
/// UDP sockets opened for peers behind hard NATs: four such peers at once with 256 each. One that is open costs the
/// kernel a kilobyte and, when strangers flood it, its small receive buffer.
pub const EXTRA_SOCKETS: usize = 1024;
/// Packets that wait for a session: enough for a game's first burst, never a queue.
pub const WAITING: usize = 8;
/// Small sealed packets kept per peer to be sent again by another way: 1.3 s of a game that sends 200 a second.
pub const SENT_PACKETS: usize = 256;
/// The longest of them.
pub const SENT_BYTES: usize = 512;
/// Flows that the firewall remembers per node.
pub const FLOWS: usize = 4096;
/// Announcements remembered per node (own and heard).
pub const ANNOUNCEMENTS: usize = 256;
/// Our own injections remembered to recognise their echo.
pub const ECHOES: usize = 1024;
/// Packets that wait for a plugin's answer: at 5 ms each, 64 are 12,800 a second.
pub const QUESTIONS: usize = 64;
/// Verdicts of plugins that hold for a while.
pub const TAUGHT: usize = 512;
/// Twins remembered: the same announcement from another card.
pub const TWINS: usize = 256;
/// The tunnel device's MTU in bytes: 1400 + 20 (frame) + 32 (WireGuard) + 8 (UDP) + 40 (IPv6) is exactly 1500.
pub const MTU: u16 = 1400;
/// The lowest MTU that IPv6 allows (RFC 8200, section 5).
pub const MTU_FLOOR: u16 = 1280;
/// Events that wait for the host.
pub const EFFECTS: usize = 4096;

/// Heartbeat to the control planes.
pub const HEARTBEAT: Duration = Duration::from_secs(30);
/// A peer silent for this long is shown as away.
pub const AWAY_AFTER: Duration = Duration::from_secs(90);
/// And for this long, as gone.
pub const GONE_AFTER: Duration = Duration::from_secs(300);
/// Sweep of a control server.
pub const SWEEP: Duration = Duration::from_secs(60);
/// The longest silence on a live path; routers forget UDP mappings after 30 s and more.
pub const KEEPALIVE: Duration = Duration::from_secs(15);
/// Routers forget UDP mappings after 30 s and more: the longest silence on any path.
pub const KEEPALIVE_MOST: Duration = Duration::from_secs(25);
/// Attempts of one HTTP request.
pub const HTTP_ATTEMPTS: u32 = 3;

/// The worst case of the data plane's memory: LAN batch, transfers that wait and are merged, WAN batch, one send batch per peer,
/// waiting packets.
pub const DATA_PLANE_BYTES: usize = BATCH_SLOTS * SLOT_BYTES
    + AHEAD_BYTES
    + MERGED_FLOWS * GRO_BYTES
    + DATAGRAMS * GRO_BYTES
    + 2 * (DATAGRAMS * EARLY + 1) * SLOT_BYTES
    + (PEERS + 1) * GRO_BYTES
    + PEERS * WAITING * SLOT_BYTES
    + PEERS * SENT_PACKETS * (SENT_BYTES + 24)
    + FLOWS * 64
    + ANNOUNCEMENTS * 2 * SLOT_BYTES
    + (2 * QUESTIONS + TAUGHT) * SLOT_BYTES;
const _: () = assert!(DATA_PLANE_BYTES <= 32 << 20, "the data plane must fit 32 MiB");
const _: () = assert!(MTU as usize + 36 + 16 + SLOT_HEAD <= SLOT_BYTES);
const _: () = assert!(MTU >= MTU_FLOOR);
