//! The tunnel device: made with tun-rs, set up by rtnetlink, read until empty, written at once.
//!
//! Never persistent: the device, its addresses and its routes live as long as our file descriptor, so they vanish even
//! when the process is killed. Where the kernel can, one read brings and one write takes many packets of a flow
//! (`wire::offload`): a world download costs a fraction, and a lone packet of a game waits for nothing.
//!
//! tun-rs's synchronous device with readiness of our own: its asynchronous one refuses to write before the reactor has
//! looked at it once, and locks per read to notice a device that was deleted, which we see as a change of the cards.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::task::{Context, Poll};

use tun_rs::{DeviceBuilder, SyncDevice};

use super::LanError;
use super::marker::{self, Process};
use super::netlink::{Link, Netlink};
use crate::engine::effect::LanConfig;
use crate::host::watch::Watch;
use crate::wire::offload::{Ahead, Flow, Merge, Split, VNET};

/// Packets that may wait for us to read them. The kernel's own default for TUN is 500; a 64-peer burst and a slow turn
/// of the data loop fit twice into 1,000.
const QUEUE: u32 = 1000;
/// The party's network is a /24 and a /64.
pub(super) const PREFIX_V4: u8 = 24;
const PREFIX_V6: u8 = 64;
/// Free bytes in front of a packet that is written.
pub(super) const HEAD: usize = VNET;

/// The device.
pub(super) struct Tun {
    device: SyncDevice,
    watch: Watch,
    index: u32,
    name: String,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
    mtu: u16,
    /// `None` where the kernel refuses.
    offload: Option<Offload>,
    lone: Lone,
}

/// Whether packets come one at a time. Then the read after a packet would only learn that there is no other, while the packet
/// waits to be sent.
#[derive(Debug, Default)]
pub(super) struct Lone {
    /// Readings in a row that brought one packet.
    ones: u32,
}

impl Lone {
    /// So many in a row make it likely,
    const LIKELY: u32 = 4;
    /// and every eighth time it is tried whether there is another one.
    const TRY: u32 = 8;

    const fn expects_one(&self) -> bool {
        self.ones >= Self::LIKELY && !self.ones.is_multiple_of(Self::TRY)
    }

    const fn note(&mut self, packets: usize) {
        self.ones = match packets {
            0 => self.ones,
            1 => self.ones.wrapping_add(1),
            _ => 0,
        };
    }
}

/// What a device with offloads needs.
struct Offload {
    ahead: Ahead,
    merge: Merge,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// One packet of this length.
    Packet(usize),
    /// Something that waits for `Tun::next`, or was nothing.
    Later,
    /// Nothing was read: too much waits.
    Full,
}

/// A device that was just closed may be seen for a moment: a child process that is being started holds it until it begins.
const LINGERING: u32 = 16;
const LINGER: std::time::Duration = std::time::Duration::from_millis(20);

impl Tun {
    /// Makes the device and sets it up.
    pub(super) fn make(
        name: &str,
        owner: Process,
        config: &LanConfig,
        netlink: &mut Netlink,
        offload: bool,
    ) -> Result<Self, LanError> {
        check_name(name)?;
        let refused = |doing| move |source| LanError::refused(doing, name, source);
        // tun-rs would make the device node if it could, which nobody would ever remove.
        if !Path::new("/dev/net/tun").exists() {
            return Err(LanError::NoTun);
        }
        for last in (0..LINGERING).rev() {
            let links = netlink.links().map_err(refused("list network devices"))?;
            let Some(there) = links.iter().find(|l| l.name == name) else { break };
            if last == 0 || !is_ours(there) {
                return Err(name_taken(there, &links));
            }
            std::thread::sleep(LINGER);
        }
        let build = |offload| {
            let device = DeviceBuilder::new().name(name).mtu(config.mtu).tx_queue_len(QUEUE).enable(false);
            device.offload(offload).build_sync()
        };
        let device = match build(offload) {
            Err(error) if offload => {
                tracing::info!(%error, "the adapter takes packets one by one: this kernel merges none");
                build(false)
            }
            built => built,
        };
        let device = device.map_err(refused("make a tunnel device"))?;
        let offload = device.tcp_gso().then(|| Offload::new(device.udp_gso()));
        device.set_nonblocking(true).map_err(refused("read the tunnel device without waiting"))?;
        let watch = Watch::beside(&device).map_err(refused("wait for the tunnel device"))?;
        let index = device.if_index().map_err(refused("find the tunnel device"))?;
        let mut tun = Self {
            device,
            watch,
            index,
            name: name.to_owned(),
            v4: None,
            v6: None,
            mtu: config.mtu,
            offload,
            lone: Lone::default(),
        };
        calm(name);
        netlink.set_up(index, &owner.note()).map_err(refused("set the tunnel device up"))?;
        tun.readdress(config, netlink)?;
        Ok(tun)
    }

    /// Gives the device the addresses and MTU of `config` and takes the old ones away.
    pub(super) fn readdress(&mut self, config: &LanConfig, netlink: &mut Netlink) -> Result<(), LanError> {
        self.resize(config.mtu)?;
        let Self { index, name, v4, v6, .. } = self;
        let index = *index;
        if *v4 != Some(config.v4) {
            refuse_taken(netlink, index, config.v4.into())?;
            // The old one first: a second address of the same network would be a secondary one, and the kernel removes
            // those together with the first.
            let old = v4.take();
            if let Some(old) = old {
                forget(netlink, index, old.into(), PREFIX_V4);
            }
            if let Err(error) = netlink.add_v4(index, config.v4, PREFIX_V4) {
                *v4 = old.filter(|old| netlink.add_v4(index, *old, PREFIX_V4).is_ok());
                return Err(LanError::refused("set the IPv4 address", name, error));
            }
            *v4 = Some(config.v4);
        }
        if *v6 != Some(config.v6) {
            // Systems without IPv6 refuse with various errors; the party works without it.
            match netlink.add_v6(index, config.v6, PREFIX_V6) {
                Ok(()) => {
                    if let Some(old) = v6.replace(config.v6) {
                        forget(netlink, index, old.into(), PREFIX_V6);
                    }
                }
                Err(error) => tracing::info!(%error, "the adapter has no IPv6 address: IPv6 is off here"),
            }
        }
        Ok(())
    }

    /// Changes the MTU.
    pub(super) fn resize(&mut self, mtu: u16) -> Result<(), LanError> {
        if self.mtu != mtu {
            self.device.set_mtu(mtu).map_err(|e| LanError::refused("set the MTU", &self.name, e))?;
            self.mtu = mtu;
        }
        Ok(())
    }

    /// Interface index.
    pub(super) const fn index(&self) -> u32 {
        self.index
    }

    /// Whether it has an IPv6 address.
    pub(super) const fn has_v6(&self) -> bool {
        self.v6.is_some()
    }

    /// Whether there is something to read.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.watch.poll_readable(cx)
    }

    /// Reads once; `WouldBlock` when there is nothing.
    pub(super) fn read(&mut self, room: &mut [u8]) -> io::Result<Read> {
        let Self { device, watch, offload, .. } = self;
        let Some(Offload { ahead, .. }) = offload else {
            return watch.try_read(|| device.recv(room)).map(Read::Packet);
        };
        let Some(long) = ahead.room() else { return Ok(Read::Full) };
        let mut header = [0; VNET];
        let read = watch.try_read(|| {
            // A single packet lands where it is wanted; only what is longer has its end elsewhere.
            let rest = long.get_mut(room.len()..).unwrap_or_default();
            let mut pieces = [&mut header[..], &mut *room, rest].map(IoSliceMut::new);
            device.recv_vectored(&mut pieces)
        })?;
        Ok(sort(ahead, header, read.saturating_sub(VNET), room))
    }

    /// A packet was read, and it is better sent than asked for another one: the next wait says whether there is one.
    pub(super) fn leaves_rest(&self) -> bool {
        self.lone.expects_one() && self.watch.leave_rest()
    }

    /// More than one packet may be there.
    pub(super) fn expect_many(&mut self) {
        self.lone = Lone::default();
    }

    /// A reading is over; so many packets it brought.
    pub(super) const fn note(&mut self, packets: usize) {
        self.lone.note(packets);
    }

    /// The next packet of what was read before its turn; `None` when nothing waits.
    pub(super) fn next(&mut self, room: &mut [u8]) -> Option<usize> {
        self.offload.as_mut()?.ahead.next(room)
    }

    /// Whether something waits for `next`.
    pub(super) fn is_behind(&self) -> bool {
        self.offload.as_ref().is_some_and(|o| !o.ahead.is_empty())
    }

    /// Hands a packet to the system as if it had come in by the device, now or at the next `flush`. It lies behind `HEAD`
    /// free bytes. Tells how each write went.
    pub(super) fn write(&mut self, framed: &mut [u8], mut done: impl FnMut(io::Result<()>)) {
        let Self { device, offload, .. } = self;
        match offload {
            Some(offload) => offload.merge.push(framed, &mut |bytes| done(device.send(bytes).map(drop))),
            None => done(device.send(framed.get(HEAD..).unwrap_or_default()).map(drop)),
        }
    }

    /// Hands over what waits.
    pub(super) fn flush(&mut self, mut done: impl FnMut(io::Result<()>)) {
        let Self { device, offload: Some(offload), .. } = self else { return };
        offload.merge.flush(&mut |bytes| done(device.send(bytes).map(drop)));
    }

    /// Whether the device is still there; somebody may have deleted it.
    pub(super) fn is_there(&self) -> bool {
        self.device.name().is_ok_and(|name| name == self.name)
    }
}

impl Offload {
    fn new(udp: bool) -> Self {
        Self { ahead: Ahead::default(), merge: Merge::new(udp) }
    }
}

/// What a read was. Its beginning lies in `room`, the rest where `ahead` has room.
fn sort(ahead: &mut Ahead, header: [u8; VNET], len: usize, room: &mut [u8]) -> Read {
    if let Some(packet) = room.get_mut(..len)
        && let Ok(None) = Split::begin(header, packet)
    {
        if ahead.is_empty() {
            return Read::Packet(len);
        }
        let flow = Flow::of(packet);
        if !ahead.holds(flow) {
            return Read::Packet(len);
        }
        if let Some(to) = ahead.room().and_then(|long| long.get_mut(..len)) {
            to.copy_from_slice(packet);
            ahead.push(len, flow, None);
        }
        return Read::Later;
    }
    let Some(long) = ahead.room().and_then(|long| long.get_mut(..len)) else { return Read::Later };
    for (to, from) in long.iter_mut().zip(&*room) {
        *to = *from;
    }
    // What contradicts itself, or is one packet beyond any of ours, is dropped.
    if let Ok(Some(split)) = Split::begin(header, long) {
        let flow = Flow::of(long);
        ahead.push(len, flow, Some(split));
    }
    Read::Later
}

fn check_name(name: &str) -> Result<(), LanError> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    // The kernel takes % as a pattern and refuses / : and spaces; "." and ".." are folders of /proc/sys.
    if (1..=15).contains(&name.len()) && name.chars().all(fine) && name != "." && name != ".." {
        Ok(())
    } else {
        Err(LanError::BadName { name: name.to_owned() })
    }
}

fn is_ours(there: &Link) -> bool {
    there.tun && marker::is_ours(&there.alias)
}

fn name_taken(there: &Link, links: &[Link]) -> LanError {
    let whose =
        if is_ours(there) { "another lanrage on this computer uses it" } else { "it is not lanrage's" };
    let free = |name: &String| links.iter().all(|l| l.name != *name);
    let other = (0u32..).map(|n| format!("lanrage{n}")).find(free).unwrap_or_default();
    LanError::NameTaken { name: there.name.clone(), whose, other }
}

fn refuse_taken(netlink: &mut Netlink, own: u32, address: IpAddr) -> Result<(), LanError> {
    let taken = netlink
        .addresses()
        .unwrap_or_default()
        .into_iter()
        .find(|a| a.net.addr == address && a.index != own)
        .map(|a| a.index);
    let Some(index) = taken else { return Ok(()) };
    let card = netlink.links().unwrap_or_default().into_iter().find(|l| l.index == index);
    Err(LanError::AddressTaken { address, card: card.map_or_else(|| index.to_string(), |l| l.name) })
}

fn forget(netlink: &mut Netlink, index: u32, address: IpAddr, prefix: u8) {
    if let Err(error) = netlink.remove_address(index, address, prefix) {
        tracing::warn!(%error, %address, "the adapter's old address could not be removed");
    }
}

/// Turns off what the kernel would do on an ordinary network: asking for routers and making up link-local addresses,
/// and, where it is strict, refusing packets whose source is routed elsewhere. These files belong to our device only.
fn calm(name: &str) {
    for (file, value) in
        [("accept_ra", "0"), ("autoconf", "0"), ("router_solicitations", "0"), ("addr_gen_mode", "1")]
    {
        set(&format!("/proc/sys/net/ipv6/conf/{name}/{file}"), value);
    }
    // The stricter of "all" and the device's own holds; 2 (loose) beats 1 (strict) because it is the larger number.
    let strictness = |scope: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{scope}/rp_filter"));
        text.ok().and_then(|t| t.trim().parse::<u8>().ok()).unwrap_or(0)
    };
    if strictness("all").max(strictness(name)) == 1 {
        set(&format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "2");
    }
}

fn set(file: &str, value: &str) {
    if let Err(error) = std::fs::write(file, value) {
        // Missing where IPv6 is off, read-only in some containers; the device works without.
        tracing::debug!(%error, file, "a setting of the adapter could not be made");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_packets_are_expected_after_some_and_doubted_now_and_then() {
        let mut lone = Lone::default();
        let mut trusted = 0;
        for _ in 0..80 {
            trusted += u32::from(lone.expects_one());
            lone.note(1);
            lone.note(0);
        }
        assert_eq!(trusted, 80 - 4 - 9, "not the first four, and not every eighth");
        lone.note(2);
        assert!(!lone.expects_one());
    }

    #[test]
    fn names_that_no_device_can_have_are_refused() {
        for good in ["lanrage0", "eth1", "wlan-x.5", "a"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "lan%d", "a b", "sixteen-letters-", "län"] {
            assert!(matches!(check_name(bad), Err(LanError::BadName { .. })), "{bad}");
        }
    }
}
