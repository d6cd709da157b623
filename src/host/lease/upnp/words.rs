//! What is said to a UPnP router and what its answers say: discovery (SSDP), the description of its services, and the
//! calls of `WANIPConnection` (UPnP Device Architecture 1.1; WANIPConnection:1 and :2). Pure; the answers are hostile.
//!
//! Not an XML reader: it looks for the text between two tags, as routers have always been read. Whatever is found is an
//! address, a number or a path, and is read as one before it is used.

use super::http::{Page, Reply};
use std::net::Ipv4Addr;

/// Services of one router that are looked at. Real ones have one or two that connect to the internet.
const SERVICES: usize = 4;
/// The longest text that is shown to people.
const SHOWN: usize = 60;

/// Targets of the search: those that routers of the last twenty years answer to.
const TARGETS: [&str; 4] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// The service types that forward ports, best first.
const FORWARDERS: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];

/// A service of the router, and where it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::host::lease) struct Service {
    pub(super) kind: &'static str,
    pub(super) page: Page,
}

/// The questions of a search.
pub(super) fn searches() -> impl Iterator<Item = String> {
    TARGETS.iter().map(|target| {
        format!(
            "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {target}\r\n\r\n"
        )
    })
}

/// Where the router that answered a search describes itself.
pub(super) fn read_search(bytes: &[u8], router: Ipv4Addr) -> Option<Page> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.split("\r\n");
    let mut first = lines.next()?.split(' ');
    if !first.next()?.starts_with("HTTP/1.") || first.next()? != "200" {
        return None;
    }
    let headers: Vec<(&str, &str)> = lines.filter_map(|l| l.split_once(':')).collect();
    let header =
        |wanted: &str| headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(wanted)).map(|(_, v)| v.trim());
    // Printers answer to anything.
    header("st").filter(|st| TARGETS.contains(st))?;
    Page::parse(header("location")?).filter(|page| *page.at.ip() == router)
}

/// The services of a description that forward ports, best first.
pub(super) fn read_services(description: &str, page: &Page) -> Vec<Service> {
    let base =
        text_of(description, "URLBase").and_then(|url| page.link(&url)).unwrap_or_else(|| page.clone());
    let mut found: Vec<Service> = parts(description, "service")
        .filter_map(|service| {
            let kind = text_of(service, "serviceType")?;
            let kind = *FORWARDERS.iter().find(|known| **known == kind)?;
            Some(Service { kind, page: base.link(&text_of(service, "controlURL")?)? })
        })
        .take(SERVICES)
        .collect();
    found.sort_by_key(|service| FORWARDERS.iter().position(|known| *known == service.kind));
    found
}

/// The headers and body of a call.
pub(super) fn call(service: &Service, action: &str, arguments: &[(&str, &str)]) -> (String, String) {
    let kind = service.kind;
    let arguments: String =
        arguments.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
    let headers = format!("Content-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: \"{kind}#{action}\"\r\n");
    let body = format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{kind}\">\
         {arguments}</u:{action}></s:Body></s:Envelope>\r\n"
    );
    (headers, body)
}

/// A call that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u16,
    text: String,
}

impl Refusal {
    /// The router insists on a mapping that never ends.
    pub(super) const PERMANENT_ONLY: u16 = 725;
    /// The outside port is somebody else's.
    pub(super) const CONFLICT: u16 = 718;

    /// For people.
    pub(super) fn words(&self) -> String {
        match self.code {
            Self::CONFLICT => "the outside port is taken".into(),
            // 606 by the book; 401 and 402 by routers on which it is switched off.
            606 | 401 | 402 => format!("it does not allow it ({})", self.code),
            code if self.text.is_empty() => format!("error {code}"),
            code => format!("error {code}, {}", self.text),
        }
    }
}

/// Whether a call was granted.
pub(super) fn outcome(reply: &Reply) -> Result<&str, Refusal> {
    if (200..300).contains(&reply.status) {
        return Ok(&reply.body);
    }
    let code = text_of(&reply.body, "errorCode").and_then(|c| c.parse().ok()).unwrap_or(reply.status);
    let text = text_of(&reply.body, "errorDescription").unwrap_or_default();
    Err(Refusal { code, text: shown(&text) })
}

/// The outside address in the answer to `GetExternalIPAddress`.
pub(super) fn read_address(body: &str) -> Option<Ipv4Addr> {
    text_of(body, "NewExternalIPAddress")?.parse().ok()
}

/// Text of a router, safe to be shown: no control characters, no end of a terminal line, not long.
fn shown(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(SHOWN).collect()
}

/// What stands between `<name>` and `</name>` the first time.
fn text_of(xml: &str, name: &str) -> Option<String> {
    let text = parts(xml, name).next()?.trim();
    Some(
        text.replace("&lt;", "<")
            .replace("&gt;", ">")
            .replace("&quot;", "\"")
            .replace("&apos;", "'")
            .replace("&amp;", "&"),
    )
}

/// What stands between each `<name …>` and the next `</name>`.
fn parts<'a>(xml: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let mut rest = xml;
    std::iter::from_fn(move || {
        loop {
            let (_, after) = rest.split_once('<')?;
            rest = after;
            let Some(after) = after.strip_prefix(name) else { continue };
            // `<service>` is meant and not `<serviceList>`.
            let attributes = after.find('>')?;
            if !after.starts_with(['>', ' ', '\t', '\r', '\n']) {
                continue;
            }
            let inner = after.get(attributes + 1..)?;
            let end = inner.match_indices("</").map(|(at, _)| at).find(|at| {
                inner
                    .get(at + 2..)
                    .and_then(|tag| tag.strip_prefix(name))
                    .is_some_and(|tag| tag.trim_start().starts_with('>'))
            })?;
            rest = inner.get(end..)?;
            return inner.get(..end);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn page() -> Page {
        Page::parse("http://192.168.1.1:5000/rootDesc.xml").unwrap()
    }

    #[test]
    fn only_the_router_itself_is_believed_to_be_a_router() {
        let answer = |st: &str, location: &str| {
            let text = format!(
                "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nst: {st}\r\nLocation: {location}\r\n\r\n"
            );
            read_search(text.as_bytes(), ROUTER)
        };
        let good = "http://192.168.1.1:5000/rootDesc.xml";
        assert_eq!(answer(TARGETS[0], good), Some(page()));
        assert_eq!(answer("urn:schemas-upnp-org:device:Printer:1", good), None);
        assert_eq!(answer(TARGETS[0], "http://192.168.1.9:5000/rootDesc.xml"), None);
        assert_eq!(answer(TARGETS[0], "http://evil.example/rootDesc.xml"), None);
        assert_eq!(read_search(b"NOTIFY * HTTP/1.1\r\n\r\n", ROUTER), None);
        assert!(searches().all(|s| s.ends_with("\r\n\r\n")));
    }

    #[test]
    fn services_are_found_among_others_best_first() {
        let xml = "<root xmlns=\"x\"><device><serviceList>\
            <service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/no</controlURL></service>\
            <service a=\"b\">\n <serviceType>urn:schemas-upnp-org:service:WANPPPConnection:1</serviceType>\n <controlURL> /ppp?a=1&amp;b=2 </controlURL></service>\
            <service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>ctl/IP</controlURL></service>\
            </serviceList></device></root>";
        let found = read_services(xml, &page());
        let short: Vec<_> = found.iter().map(|s| (s.kind, s.page.path.as_str())).collect();
        assert_eq!(short, [(FORWARDERS[1], "/ctl/IP"), (FORWARDERS[2], "/ppp?a=1&b=2")]);
        let based = format!("<URLBase>http://192.168.1.1:7/dir/</URLBase>{xml}");
        assert_eq!(
            read_services(&based, &page())[0].page,
            Page::parse("http://192.168.1.1:7/dir/ctl/IP").unwrap()
        );
        let elsewhere = xml.replace("ctl/IP", "http://10.9.9.9/ctl");
        assert_eq!(read_services(&elsewhere, &page()).len(), 1, "a call never goes to another computer");
        let many = xml.repeat(100);
        assert_eq!(read_services(&many, &page()).len(), SERVICES);
    }

    #[test]
    fn calls_and_their_answers() {
        let service = Service { kind: FORWARDERS[1], page: page() };
        let (headers, body) = call(&service, "AddPortMapping", &[("NewProtocol", "UDP")]);
        assert!(
            headers.contains(
                "SOAPAction: \"urn:schemas-upnp-org:service:WANIPConnection:1#AddPortMapping\"\r\n"
            )
        );
        assert!(body.contains("<NewProtocol>UDP</NewProtocol></u:AddPortMapping>"), "{body}");
        let fault = "<s:Fault><detail><UPnPError><errorCode>725</errorCode><errorDescription>\x1b[31mOnly\n</errorDescription>";
        let refused = outcome(&Reply { status: 500, body: fault.into() }).unwrap_err();
        assert_eq!(
            (refused.code, refused.words().as_str()),
            (Refusal::PERMANENT_ONLY, "error 725, [31mOnly")
        );
        assert_eq!(outcome(&Reply { status: 404, body: String::new() }).unwrap_err().words(), "error 404");
        let address = "<u:X><NewExternalIPAddress>203.0.113.9</NewExternalIPAddress></u:X>";
        assert_eq!(
            read_address(outcome(&Reply { status: 200, body: address.into() }).unwrap()),
            Some(Ipv4Addr::new(203, 0, 113, 9))
        );
        assert_eq!(read_address("<NewExternalIPAddress></NewExternalIPAddress>"), None);
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in "(<|>|/|service|serviceType|controlURL|errorCode|é|[ -~]){0,60}") {
            let _ = (read_services(&text, &page()), read_address(&text), read_search(text.as_bytes(), ROUTER));
            let _ = outcome(&Reply { status: 500, body: text });
        }
    }
}
