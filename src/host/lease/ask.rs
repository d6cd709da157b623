//! Asking the router by NAT-PMP and PCP: a question, again after 250 ms and twice as long each time, for three seconds.
//! The sockets are connected, so that only the router is heard, and a router that refuses the port says so at once.

use super::{Grant, Hold, LIFETIME, Site, Why, natpmp, pcp};
use crate::model::nat::PortMapping;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

/// The first wait (RFC 6886, section 3.1).
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Altogether. Routers answer in milliseconds or never.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest message of PCP (RFC 6887, section 7).
const LONGEST: usize = 1100;
/// Datagrams of the router that are no answer to the question.
const BESIDE: usize = 64;

async fn socket(site: &Site) -> Result<UdpSocket, Why> {
    let socket = UdpSocket::bind((site.source, 0)).await?;
    socket.connect((site.router, natpmp::PORT)).await?;
    Ok(socket)
}

/// Asks until `read` finds an answer.
async fn exchange<T>(
    socket: &UdpSocket,
    request: &[u8],
    mut read: impl FnMut(&[u8]) -> Option<T>,
) -> Result<T, Why> {
    let end = Instant::now() + PATIENCE;
    let (mut wait, mut room) = (FIRST_WAIT, [0; LONGEST]);
    let mut beside = 0;
    while Instant::now() < end {
        socket.send(request).await?;
        let again = end.min(Instant::now() + wait);
        wait *= 2;
        while let Ok(got) = timeout_at(again, socket.recv(&mut room)).await {
            if let Some(answer) = room.get(..got?).and_then(&mut read) {
                return Ok(answer);
            }
            beside += 1;
            if beside > BESIDE {
                return Err(Why::Nonsense);
            }
        }
    }
    Err(Why::NoAnswer)
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Self {
        // ICMP: nothing listens there.
        if error.kind() == io::ErrorKind::ConnectionRefused { Self::NotSpoken } else { Self::Failed(error) }
    }
}

/// A port by NAT-PMP. The outside address is asked for beside it.
pub(super) async fn natpmp(site: &Site, outside: u16) -> Result<Grant, Why> {
    let map = async {
        let socket = socket(site).await?;
        let request = natpmp::ask_map(site.port, outside, LIFETIME);
        let ours = |bytes: &[u8]| match natpmp::read(bytes)? {
            natpmp::Answer::Mapped { inside, outside, lifetime, epoch } if inside == site.port => {
                Some(Ok((outside, lifetime, epoch)))
            }
            natpmp::Answer::Refused { code } => Some(Err(Why::Refused(natpmp::meaning(code).into()))),
            natpmp::Answer::Mapped { .. } | natpmp::Answer::Address { .. } => None,
        };
        exchange(&socket, &request, ours).await?
    };
    let address = async {
        let socket = socket(site).await?;
        let ours = |bytes: &[u8]| match natpmp::read(bytes)? {
            natpmp::Answer::Address { ip, .. } => Some(Ok(ip)),
            natpmp::Answer::Refused { code } => Some(Err(Why::Refused(natpmp::meaning(code).into()))),
            natpmp::Answer::Mapped { .. } => None,
        };
        exchange(&socket, &natpmp::ask_address(), ours).await?
    };
    let ((outside, lifetime, epoch), ip) = tokio::try_join!(map, address)?;
    if outside == 0 || lifetime.is_zero() {
        return Err(Why::Refused("no port came of it".into()));
    }
    Ok(Grant {
        by: PortMapping::NatPmp,
        external: SocketAddr::new(ip.into(), outside),
        lifetime,
        epoch: Some(epoch),
        hold: Hold::NatPmp,
    })
}

/// A port by PCP.
pub(super) async fn pcp(site: &Site, outside: u16) -> Result<Grant, Why> {
    let socket = socket(site).await?;
    let request = pcp::ask_map(site.source, &site.nonce, site.port, outside, LIFETIME);
    let ours = |bytes: &[u8]| {
        if pcp::is_other_version(bytes) {
            return Some(Err(Why::NotSpoken));
        }
        match pcp::read(bytes)? {
            pcp::Answer::Mapped { nonce, inside, outside, lifetime, epoch } => {
                (nonce == site.nonce && inside == site.port).then_some(Ok((outside, lifetime, epoch)))
            }
            pcp::Answer::Refused { nonce, code } => {
                (nonce == site.nonce).then(|| Err(Why::Refused(pcp::meaning(code).into())))
            }
            pcp::Answer::OtherVersion => Some(Err(Why::NotSpoken)),
        }
    };
    let (external, lifetime, epoch) = exchange(&socket, &request, ours).await??;
    if external.port() == 0 || lifetime.is_zero() {
        return Err(Why::Refused("no port came of it".into()));
    }
    Ok(Grant { by: PortMapping::Pcp, external, lifetime, epoch: Some(epoch), hold: Hold::Pcp })
}

/// Gives a port back: said once, not waited for. A lost word costs the router a mapping for an hour or two.
pub(super) async fn give_back(site: &Site, hold: &Hold) -> Result<(), Why> {
    let socket = socket(site).await?;
    match hold {
        Hold::NatPmp => socket.send(&natpmp::ask_map(site.port, 0, 0)).await?,
        Hold::Pcp => socket.send(&pcp::ask_map(site.source, &site.nonce, site.port, 0, 0)).await?,
        Hold::Upnp(_) => 0,
    };
    Ok(())
}

/// Where routers announce that they restarted. `None` when another program has the port to itself.
pub(super) fn news_socket() -> Option<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).ok()?;
    socket.set_reuse_address(true).ok()?;
    socket.set_nonblocking(true).ok()?;
    // Bound to the group, so that nothing else sent to this computer reaches it: a scan sees no port that was not there.
    let at = if cfg!(target_os = "linux") { natpmp::NEWS_GROUP } else { Ipv4Addr::UNSPECIFIED };
    let all = SocketAddr::from((at, natpmp::NEWS_PORT));
    socket.bind(&all.into()).ok()?;
    UdpSocket::from_std(socket.into()).ok()
}

/// Waits for such news of this router; for ever without a socket.
pub(super) async fn news(socket: Option<&UdpSocket>, site: &Site) -> u32 {
    let mut room = [0; LONGEST];
    if let Some(socket) = socket {
        while let Ok((len, from)) = socket.recv_from(&mut room).await {
            let bytes = room.get(..len).unwrap_or_default();
            let epoch = match natpmp::read(bytes) {
                Some(natpmp::Answer::Address { epoch, .. }) => Some(epoch),
                _ => pcp::read_announcement(bytes),
            };
            if let Some(epoch) = epoch.filter(|_| from.ip() == site.router) {
                return epoch;
            }
        }
    }
    std::future::pending().await
}
