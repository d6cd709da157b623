//! UPnP Internet Gateway Device: find the router (SSDP), read what it can do, have it forward a UDP port. Only the
//! default router is believed and only it is called; `words` and `http` read what it says.

mod http;
mod words;

use super::{Grant, Hold, LIFETIME, Site, Why, is_public};
use crate::model::nat::PortMapping;
use http::Page;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};
use words::Refusal;
pub(super) use words::Service;

const MULTICAST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), PORT);
const PORT: u16 = 1900;
/// When the search is repeated, and when it ends. Routers may take a second (MX) to answer the multicast one.
const WAITS: [Duration; 3] =
    [Duration::from_millis(500), Duration::from_millis(1000), Duration::from_millis(1500)];
/// Datagrams that are no answer of the router.
const BESIDE: usize = 256;
/// Outside ports that are tried when somebody else has the wanted one.
const PORTS: usize = 4;
/// The mapping never ends by itself: renewed as if it ended in a day, and always given back.
const PERMANENT: Duration = Duration::from_secs(86_400);

/// A mapping: where it was made, and its outside port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mapping {
    service: Service,
    outside: u16,
}

/// A port by UPnP. What was found out the last time is tried first.
pub(super) async fn ask(site: &Site, outside: u16, known: Option<&Mapping>) -> Result<Grant, Why> {
    if let Some(known) = known
        && let Ok(grant) = map(site, &known.service, known.outside).await
    {
        return Ok(grant);
    }
    let page = search(site).await?;
    let described = http::get(&page).await.map_err(Why::Failed)?;
    let services = words::read_services(&described.body, &page);
    let mut last = Why::Refused("it forwards no ports".into());
    for service in services {
        match map(site, &service, outside).await {
            Ok(grant) => return Ok(grant),
            Err(why) => last = why,
        }
    }
    Err(last)
}

/// Asks the router by its address and everybody by multicast; waits for the router's word.
async fn search(site: &Site) -> Result<Page, Why> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).map_err(Why::Failed)?;
    socket.set_multicast_if_v4(&site.source).map_err(Why::Failed)?;
    socket.set_multicast_ttl_v4(2).map_err(Why::Failed)?;
    socket.set_nonblocking(true).map_err(Why::Failed)?;
    socket.bind(&SocketAddr::from((site.source, 0)).into()).map_err(Why::Failed)?;
    let socket = UdpSocket::from_std(socket.into()).map_err(Why::Failed)?;
    let (mut room, mut beside) = ([0; 2048], 0);
    for wait in WAITS {
        for question in words::searches() {
            // Either may be refused (no multicast route, say); the other may do.
            let _ = socket.send_to(question.as_bytes(), (site.router, PORT)).await;
            let _ = socket.send_to(question.as_bytes(), MULTICAST).await;
        }
        let end = Instant::now() + wait;
        while let Ok(got) = timeout_at(end, socket.recv_from(&mut room)).await {
            if let Ok((len, from)) = got
                && from.ip() == site.router
                && let Some(page) = words::read_search(room.get(..len).unwrap_or_default(), site.router)
            {
                return Ok(page);
            }
            beside += 1;
            if beside > BESIDE {
                return Err(Why::Nonsense);
            }
        }
    }
    Err(Why::NoAnswer)
}

async fn call(
    service: &Service,
    action: &str,
    arguments: &[(&str, &str)],
) -> io::Result<Result<String, Refusal>> {
    let (headers, body) = words::call(service, action, arguments);
    let reply = http::post(&service.page, &headers, &body).await?;
    Ok(words::outcome(&reply).map(str::to_owned))
}

async fn map(site: &Site, service: &Service, wanted: u16) -> Result<Grant, Why> {
    let address = async {
        let body = call(service, "GetExternalIPAddress", &[]).await.map_err(Why::Failed)?;
        let body = body.map_err(|r| Why::Refused(r.words()))?;
        words::read_address(&body).ok_or_else(|| Why::Refused("the router has no internet address".into()))
    };
    let (ip, added) = tokio::join!(address, add(site, service, wanted));
    // Routers that have no public address themselves refuse with any error; people should hear the cause.
    if let (Ok(ip), Err(_)) = (&ip, &added)
        && !is_public(*ip)
        && !ip.is_unspecified()
    {
        return Err(Why::SecondRouter((*ip).into()));
    }
    let (ip, (outside, lifetime)) = (ip?, added?);
    Ok(Grant {
        by: PortMapping::Upnp,
        external: SocketAddr::from((ip, outside)),
        lifetime,
        epoch: None,
        hold: Hold::Upnp(Mapping { service: service.clone(), outside }),
    })
}

/// Has a port forwarded: the wanted one, or one nearby that nobody has.
async fn add(site: &Site, service: &Service, wanted: u16) -> Result<(u16, Duration), Why> {
    let mut lifetime = LIFETIME;
    let (mut outside, mut conflicts) = (wanted, 0);
    // Each refusal either changes what is asked for, at most PORTS + 1 times, or is the last.
    loop {
        let arguments = [
            ("NewRemoteHost", ""),
            ("NewExternalPort", &*outside.to_string()),
            ("NewProtocol", "UDP"),
            ("NewInternalPort", &*site.port.to_string()),
            ("NewInternalClient", &*site.source.to_string()),
            ("NewEnabled", "1"),
            ("NewPortMappingDescription", "lanrage"),
            ("NewLeaseDuration", &*lifetime.to_string()),
        ];
        match call(service, "AddPortMapping", &arguments).await.map_err(Why::Failed)? {
            Ok(_) if lifetime == 0 => return Ok((outside, PERMANENT)),
            Ok(_) => return Ok((outside, Duration::from_secs(lifetime.into()))),
            Err(r) if r.code == Refusal::PERMANENT_ONLY && lifetime > 0 => lifetime = 0,
            Err(r) if r.code == Refusal::CONFLICT && conflicts < PORTS => {
                conflicts += 1;
                // Far from the ports that programs choose one after the other, and above all that are privileged.
                outside = outside.wrapping_mul(31).wrapping_add(7919) | 0x8000;
            }
            Err(r) => return Err(Why::Refused(r.words())),
        }
    }
}

/// Gives a port back.
pub(super) async fn give_back(mapping: &Mapping) -> Result<(), Why> {
    let arguments =
        [("NewRemoteHost", ""), ("NewExternalPort", &*mapping.outside.to_string()), ("NewProtocol", "UDP")];
    let done = call(&mapping.service, "DeletePortMapping", &arguments).await.map_err(Why::Failed)?;
    done.map(drop).map_err(|r| Why::Refused(r.words()))
}
