//! Hosts in network namespaces. Each *site* is one LAN behind one router; sites reach one another only through it, so no
//! broadcast or multicast crosses. Everything carries the test's process id in its name and vanishes with the `Net`.
//!
//! ```text
//!   a ── br1 ┐                       site n:  10.66.n.0/24 and fd66:n::/64
//!   b ── br2 ┤ router (one           host m:  .m and ::m on a card called eth0,
//!   c ──┘    │ namespace)                     with the router (.254, ::fe) as its way out
//!   s ── br3 ┘
//! ```

use std::fs::{File, Permissions};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

const PREFIX: &str = "lrlab";

/// What the router passes on between sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carries {
    Both,
    /// Hosts have IPv4 at home, but nothing of it leaves: as behind many a mobile or fibre line.
    OnlyIpv6,
}

/// A little internet, gone when dropped.
#[derive(Debug)]
pub(crate) struct Net {
    tag: String,
    namespaces: Vec<String>,
    folder: tempfile::TempDir,
}

/// One computer.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
    /// Its own folder for settings, temporary files and logs.
    pub(crate) folder: PathBuf,
}

impl Net {
    /// Sites, each a list of host names.
    pub(crate) fn new(carries: Carries, sites: &[&[&str]]) -> (Self, Vec<Host>) {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let tag = format!("{PREFIX}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir().expect("a temporary folder");
        // some stories are told by an ordinary user
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("our own folder");
        let mut net = Self { tag, namespaces: Vec::new(), folder };
        let router = net.namespace("router");
        let forward = |family: &str| format!("net.{family}.conf.all.forwarding=1");
        if carries == Carries::Both {
            inside(&router, &["sysctl", "-qw", &forward("ipv4")]);
        }
        inside(&router, &["sysctl", "-qw", &forward("ipv6")]);
        let mut hosts = Vec::new();
        for (index, names) in sites.iter().enumerate() {
            let site = u8::try_from(index + 1).expect("few sites");
            lan(&router, site);
            for (place, name) in names.iter().enumerate() {
                hosts.push(net.host(&router, site, u8::try_from(place + 1).expect("few hosts"), name));
            }
        }
        (net, hosts)
    }

    /// A folder that all hosts see, as on a network share.
    pub(crate) fn shared(&self) -> PathBuf {
        let folder = self.folder.path().join("shared");
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    fn namespace(&mut self, name: &str) -> String {
        let namespace = format!("{}-{name}", self.tag);
        ip(&["netns", "add", &namespace]);
        self.namespaces.push(namespace.clone());
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        namespace
    }

    fn host(&mut self, router: &str, site: u8, place: u8, name: &str) -> Host {
        let namespace = self.namespace(name);
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let v4 = Ipv4Addr::new(10, 66, site, place);
        let v6 = Ipv6Addr::new(0xfd66, site.into(), 0, 0, 0, 0, 0, place.into());
        let port = format!("p{site}-{place}");
        ip(&[
            "link", "add", "eth0", "netns", &namespace, "type", "veth", "peer", "name", &port, "netns",
            router,
        ]);
        ip(&["-n", router, "link", "set", &port, "master", &format!("br{site}"), "up"]);
        let n = namespace.as_str();
        // addresses are there at once, and nothing about them changes later
        inside(
            n,
            &[
                "sysctl",
                "-qw",
                "net.ipv6.conf.eth0.accept_dad=0",
                "net.ipv6.conf.eth0.router_solicitations=0",
            ],
        );
        ip(&["-n", n, "addr", "add", &format!("{v4}/24"), "brd", "+", "dev", "eth0"]);
        ip(&["-n", n, "addr", "add", &format!("{v6}/64"), "dev", "eth0", "nodad"]);
        ip(&["-n", n, "link", "set", "eth0", "up"]);
        ip(&["-n", n, "route", "add", "default", "via", &format!("10.66.{site}.254")]);
        ip(&["-n", n, "-6", "route", "add", "default", "via", &format!("fd66:{site:x}::fe")]);
        Host { name: name.into(), namespace, v4, v6, folder }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            remove(namespace);
        }
    }
}

impl Host {
    /// A program on this host, with an environment of its own.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program.as_ref());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LANRAGE_")) {
            command.env_remove(name);
        }
        for (name, folder) in [("HOME", "home"), ("TMPDIR", "tmp"), ("XDG_RUNTIME_DIR", "run")] {
            let folder = self.folder.join(folder);
            std::fs::create_dir_all(&folder).expect("a folder");
            command.env(name, folder);
        }
        command.env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME").env_remove("XDG_STATE_HOME");
        command.current_dir(&self.folder);
        command
    }

    /// Runs a program to its end; what it wrote on standard output.
    pub(crate) fn run(&self, argv: &[&str]) -> String {
        inside(&self.namespace, argv)
    }

    /// Does something on this host: sockets made in `work` live in its namespace.
    pub(crate) fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.thread(work).join().expect("the work inside the namespace does not panic")
    }

    /// The same, on a thread of its own.
    pub(crate) fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let file = File::open(format!("/var/run/netns/{}", self.namespace)).expect("the namespace is there");
        let enter_and_work = move || {
            enter(&file);
            work()
        };
        std::thread::Builder::new().name(self.name.clone()).spawn(enter_and_work).expect("a thread")
    }
}

/// Moves the calling thread, and no other, into a network namespace.
#[expect(unsafe_code, reason = "there is no safe wrapper of setns among our dependencies")]
fn enter(namespace: &File) {
    // SAFETY: plain system call on a descriptor that outlives it; it changes only this thread.
    let done = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(done, 0, "setns: {}", std::io::Error::last_os_error());
}

/// Namespaces of earlier runs that were killed before they could tidy up.
pub(crate) fn remove_orphans() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        for name in ip(&["netns", "list"]).lines().filter_map(|line| line.split_whitespace().next()) {
            let mut parts = name.split('-');
            let owner = (parts.next() == Some(PREFIX)).then(|| parts.next()).flatten();
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                remove(name);
            }
        }
    });
}

fn remove(namespace: &str) {
    let pids = Command::new("ip").args(["netns", "pids", namespace]).output();
    for pid in pids.iter().flat_map(|out| std::str::from_utf8(&out.stdout)).flat_map(str::split_whitespace) {
        let _ = Command::new("kill").args(["-KILL", pid]).output();
    }
    let _ = Command::new("ip").args(["netns", "del", namespace]).output();
}

fn lan(router: &str, site: u8) {
    let bridge = format!("br{site}");
    ip(&["-n", router, "link", "add", &bridge, "type", "bridge", "mcast_snooping", "0"]);
    ip(&["-n", router, "addr", "add", &format!("10.66.{site}.254/24"), "brd", "+", "dev", &bridge]);
    ip(&["-n", router, "addr", "add", &format!("fd66:{site:x}::fe/64"), "dev", &bridge, "nodad"]);
    ip(&["-n", router, "link", "set", &bridge, "up"]);
}

fn ip(args: &[&str]) -> String {
    output(Command::new("ip").args(args))
}

fn inside(namespace: &str, argv: &[&str]) -> String {
    output(Command::new("ip").args(["netns", "exec", namespace]).args(argv))
}

fn output(command: &mut Command) -> String {
    let out = command.output().expect("ip runs");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}
