//! The little HTTP that routers speak: one request, one answer of at most 64 KiB within two seconds, then the end. No
//! redirects, no names, no encryption. Reading answers is pure; they are hostile.

use std::io;
use std::net::SocketAddrV4;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest answer. Descriptions of real routers have 3 to 20 KiB.
const LONGEST: usize = 64 << 10;
/// Altogether.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest path we ask for.
const PATH: usize = 512;

/// An answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

/// A page at a router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::host::lease) struct Page {
    pub(super) at: SocketAddrV4,
    pub(super) path: String,
}

impl Page {
    /// Reads `http://ADDRESS[:PORT]/PATH`. Names, user names and other protocols are refused.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let scheme = url.get(..7).filter(|s| s.eq_ignore_ascii_case("http://"))?;
        let rest = url.get(scheme.len()..)?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let at = match host.split_once(':') {
            Some((ip, port)) => SocketAddrV4::new(ip.parse().ok()?, port.parse().ok()?),
            None => SocketAddrV4::new(host.parse().ok()?, 80),
        };
        Self { at, path: String::new() }.with_path(&format!("/{path}"))
    }

    /// A page of the same router, as it is named in this one: a whole address or a path.
    pub(super) fn link(&self, named: &str) -> Option<Self> {
        let named = named.trim();
        if named.contains("://") {
            return Self::parse(named).filter(|page| page.at.ip() == self.at.ip());
        }
        if named.starts_with('/') {
            return self.with_path(named);
        }
        let folder = self.path.rfind('/').and_then(|end| self.path.get(..=end)).unwrap_or("/");
        self.with_path(&format!("{folder}{named}"))
    }

    fn with_path(&self, path: &str) -> Option<Self> {
        // A space or a line end would make another request of it.
        let fine = path.len() <= PATH && path.bytes().all(|b| b.is_ascii_graphic());
        fine.then(|| Self { at: self.at, path: path.to_owned() })
    }
}

/// Fetches a page.
pub(super) async fn get(page: &Page) -> io::Result<Reply> {
    call(page, "GET", "", "").await
}

/// Sends a body to a page.
pub(super) async fn post(page: &Page, headers: &str, body: &str) -> io::Result<Reply> {
    let headers = format!("{headers}Content-Length: {}\r\n", body.len());
    call(page, "POST", &headers, body).await
}

async fn call(page: &Page, method: &str, headers: &str, body: &str) -> io::Result<Reply> {
    let Page { at, path } = page;
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n{headers}\r\n{body}");
    let talk = async {
        let mut stream = TcpStream::connect(at).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::with_capacity(4096);
        loop {
            let read = (&mut stream).take(4096).read_buf(&mut answer).await?;
            // Not every router hangs up after it said everything.
            if read == 0 || is_whole(&answer) {
                return read_reply(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
            if answer.len() > LONGEST {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
        }
    };
    timeout(PATIENCE, talk).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

struct Head<'a> {
    status: u16,
    length: Option<usize>,
    chunked: bool,
    body: &'a [u8],
}

fn read_head(answer: &[u8]) -> Option<Head<'_>> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.splitn(3, ' ');
    first.next().filter(|v| v.starts_with("HTTP/1."))?;
    let status = first.next()?.parse().ok()?;
    let (mut length, mut chunked) = (None, false);
    for (name, value) in lines.filter_map(|l| l.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok();
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.trim().eq_ignore_ascii_case("chunked");
        }
    }
    Some(Head { status, length, chunked, body: answer.get(end + 4..)? })
}

/// Whether nothing more is to come.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = read_head(answer) else { return false };
    if head.chunked { join(head.body).is_some() } else { head.length.is_some_and(|n| head.body.len() >= n) }
}

fn read_reply(answer: &[u8]) -> Option<Reply> {
    let head = read_head(answer)?;
    let body = if head.chunked {
        join(head.body)?
    } else {
        head.body.get(..head.length.unwrap_or(head.body.len()))?.to_vec()
    };
    Some(Reply { status: head.status, body: String::from_utf8_lossy(&body).into_owned() })
}

/// The chunks of a body put together (RFC 9112, section 7.1); `None` when the last is missing.
fn join(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n")?;
        let size = std::str::from_utf8(rest.get(..end)?).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let start = end + 2;
        let stop = start.checked_add(size)?;
        body.extend(rest.get(start..stop)?);
        rest = rest.get(stop..)?.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reply(text: &str) -> Option<(u16, String)> {
        read_reply(text.as_bytes()).map(|r| (r.status, r.body))
    }

    #[test]
    fn answers_are_read_by_length_by_chunks_and_to_the_end() {
        let ok = |body: &str| Some((200, body.to_owned()));
        assert_eq!(reply("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef"), ok("abc"));
        assert_eq!(reply("HTTP/1.0 200 OK\r\n\r\nabc"), ok("abc"));
        let chunked = "HTTP/1.1 500 Oh\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(reply(chunked), Some((500, "abc0123456789".into())));
        assert!(is_whole(chunked.as_bytes()) && !is_whole(&chunked.as_bytes()[..chunked.len() - 8]));
        assert_eq!(reply("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"), None, "cut short");
        assert_eq!(reply("ICY 200 OK\r\n\r\nabc"), None);
        let endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc";
        assert_eq!(reply(endless), None);
    }

    #[test]
    fn pages_are_addresses_of_one_router() {
        let page = Page::parse("http://192.168.1.1:5000/dir/rootDesc.xml").unwrap();
        assert_eq!(
            (page.at.to_string().as_str(), page.path.as_str()),
            ("192.168.1.1:5000", "/dir/rootDesc.xml")
        );
        assert_eq!(
            Page::parse("HTTP://10.0.0.1").unwrap(),
            Page { at: "10.0.0.1:80".parse().unwrap(), path: "/".into() }
        );
        for bad in [
            "https://192.168.1.1/",
            "http://router/",
            "http://[fe80::1]/x",
            "http://u@192.168.1.1/",
            "http://192.168.1.1:99999/",
            "http://192.168.1.1/a b",
            "http://192.168.1.1/a\r\nX: y",
            "ü",
            "",
        ] {
            assert_eq!(Page::parse(bad), None, "{bad}");
        }
        let path = |named: &str| page.link(named).map(|p| format!("{}{}", p.at, p.path));
        assert_eq!(path("/ctl/IPConn").as_deref(), Some("192.168.1.1:5000/ctl/IPConn"));
        assert_eq!(path("ctl").as_deref(), Some("192.168.1.1:5000/dir/ctl"));
        assert_eq!(
            path("http://192.168.1.1:7/x").as_deref(),
            Some("192.168.1.1:7/x"),
            "another port of it is fine"
        );
        assert_eq!(path("http://192.168.1.2:5000/x"), None, "another computer is not");
        assert_eq!(path(&"x".repeat(600)), None);
    }

    proptest! {
        #[test]
        fn hostile_answers_never_panic(
            head in "HTTP/1.1 200 OK\r\n(content-length: [0-9]{0,25}\r\n)?(transfer-encoding: chunked\r\n)?\r\n",
            body in proptest::collection::vec(any::<u8>(), 0..60),
            chunk in "[0-9a-f]{0,20}(;x)?\r\n",
        ) {
            let answer = [head.as_bytes(), chunk.as_bytes(), &body].concat();
            let _ = (read_reply(&answer), is_whole(&answer), read_reply(&body));
        }

        #[test]
        fn hostile_pages_never_panic(url in ".{0,40}", named in ".{0,40}") {
            let page = Page { at: "10.0.0.1:80".parse().unwrap(), path: "/a/b".into() };
            let _ = (Page::parse(&url), page.link(&named));
        }
    }
}
