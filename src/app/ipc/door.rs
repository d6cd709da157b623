//! The door itself: a Unix socket, or loopback TCP with a token. Both are built wherever they can be, so that both are tested.

use crate::app::failure::Failure;
use crate::model::status::Trouble;
use crate::model::text;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// The Unix socket in the data folder.
#[cfg(unix)]
const SOCKET: &str = "node.sock";
/// The file that tells port and token of the other kind of door.
const PORT_FILE: &str = "node.port";

/// A connection, seen from the node.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection, seen from a command.
pub(super) trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// Which kind of door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    #[cfg(unix)]
    Unix,
    #[cfg_attr(unix, allow(dead_code, reason = "the door of systems without Unix sockets; tested here too"))]
    Tcp,
}

impl Kind {
    /// What this system uses.
    pub(super) const fn usual() -> Self {
        #[cfg(unix)]
        return Self::Unix;
        #[cfg(not(unix))]
        return Self::Tcp;
    }
}

/// An open door; its files go when it is dropped.
#[derive(Debug)]
pub(super) struct Door {
    listener: Listener,
    /// Which a request must bring; `None` where the system checks who asks.
    pub(super) token: Option<String>,
    path: PathBuf,
}

#[derive(Debug)]
enum Listener {
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
    Tcp(tokio::net::TcpListener),
}

#[derive(Serialize, Deserialize)]
struct PortFile {
    port: u16,
    token: String,
}

impl Door {
    /// Opens the door of a data folder that this process has locked: whatever lies there is left over. To be called inside
    /// a runtime.
    pub(super) fn open(kind: Kind, data_dir: &Path) -> Result<Self, Trouble> {
        let failed = |e: io::Error| {
            let what = format!("the local door in {} cannot be opened: {e}", data_dir.display());
            Trouble::new("no_local_api", what, "use a data folder on a local disk: --data-dir DIR")
        };
        match kind {
            #[cfg(unix)]
            Kind::Unix => unix::open(data_dir).map_err(failed),
            Kind::Tcp => Self::open_tcp(data_dir, &crate::host::entropy::seed()?.0).map_err(failed),
        }
    }

    fn open_tcp(data_dir: &Path, random: &[u8; 32]) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let token = text::encode(random);
        let file = PortFile { port: listener.local_addr()?.port(), token: token.clone() };
        let path = data_dir.join(PORT_FILE);
        let _ = std::fs::remove_file(&path);
        private(&path)?.write_all(&serde_json::to_vec(&file)?)?;
        let listener = Listener::Tcp(tokio::net::TcpListener::from_std(listener)?);
        Ok(Self { listener, token: Some(token), path })
    }

    /// The next who knocks.
    pub(super) async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.listener {
            #[cfg(unix)]
            Listener::Unix(listener) => Box::new(listener.accept().await?.0),
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A new file that only this user can read. On Windows the data folder lies in the user's profile and hands its rights down.
fn private(path: &Path) -> io::Result<std::fs::File> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Knocks; what is asked will be waited for so long. The answer is the connection and the token to bring.
pub(super) fn knock(
    kind: Kind,
    data_dir: &Path,
    wait: Duration,
) -> Result<(Box<dyn Wire>, Option<String>), Failure> {
    let connected = match kind {
        #[cfg(unix)]
        Kind::Unix => unix::connect(data_dir, wait).map(|c| (Box::new(c) as Box<dyn Wire>, None)),
        Kind::Tcp => {
            connect_tcp(data_dir, wait).map(|(c, token)| (Box::new(c) as Box<dyn Wire>, Some(token)))
        }
    };
    connected.map_err(|e| nobody(data_dir, &e))
}

fn connect_tcp(data_dir: &Path, wait: Duration) -> io::Result<(TcpStream, String)> {
    let mut text = Vec::new();
    std::fs::File::open(data_dir.join(PORT_FILE))?.take(super::REQUEST_BYTES).read_to_end(&mut text)?;
    let file: PortFile = serde_json::from_slice(&text).map_err(io::Error::other)?;
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, file.port));
    let stream = TcpStream::connect_timeout(&at, super::PATIENCE)?;
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(super::PATIENCE))?;
    Ok((stream, file.token))
}

fn nobody(data_dir: &Path, error: &io::Error) -> Failure {
    let dir = data_dir.display();
    let kind = error.kind();
    if kind == io::ErrorKind::PermissionDenied {
        let what = format!("the node of {dir} runs as another user");
        return Failure::new("not_allowed", what, "the same command with sudo, as the node was started");
    }
    if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
        let what = format!("no node is running with the data folder {dir}");
        let hint = "start one with `lanrage run --game GAME`; if one runs with another --data-dir (or with sudo), use the \
                    same here";
        return Failure::new("no_node", what, hint);
    }
    let what = format!("the node of {dir} does not answer: {error}");
    Failure::new("no_node", what, "stop it and start it again")
}

#[cfg(unix)]
mod unix {
    //! The length of a socket's path is limited to about a hundred bytes, and data folders can lie deep: on Linux the folder is
    //! then named through its open file descriptor.

    use super::{Door, Listener, SOCKET};
    use std::fs::{File, Permissions};
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    /// `sun_path` has 108 bytes on Linux and 104 elsewhere, with a NUL.
    const PATH_BYTES: usize = 100;

    /// A short way to a folder, and what keeps it open.
    fn short(dir: &Path) -> io::Result<(PathBuf, Option<File>)> {
        if dir.as_os_str().len() + SOCKET.len() + 5 < PATH_BYTES || !cfg!(target_os = "linux") {
            return Ok((dir.to_path_buf(), None));
        }
        let folder = File::open(dir)?;
        Ok((PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())), Some(folder)))
    }

    pub(super) fn open(data_dir: &Path) -> io::Result<Door> {
        let (dir, _folder) = short(data_dir)?;
        let (path, fresh) = (data_dir.join(SOCKET), format!("{SOCKET}.new"));
        let _ = std::fs::remove_file(data_dir.join(&fresh));
        let listener = UnixListener::bind(dir.join(&fresh))?;
        // Closed to others before it stands where others look.
        std::fs::set_permissions(data_dir.join(&fresh), Permissions::from_mode(0o600))?;
        std::fs::rename(data_dir.join(&fresh), &path)?;
        listener.set_nonblocking(true)?;
        let listener = Listener::Unix(tokio::net::UnixListener::from_std(listener)?);
        Ok(Door { listener, token: None, path })
    }

    pub(super) fn connect(data_dir: &Path, wait: Duration) -> io::Result<UnixStream> {
        let (dir, _folder) = short(data_dir)?;
        let stream = UnixStream::connect(dir.join(SOCKET))?;
        stream.set_read_timeout(Some(wait))?;
        stream.set_write_timeout(Some(super::super::PATIENCE))?;
        Ok(stream)
    }
}
