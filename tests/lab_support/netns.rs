//! Network namespaces for tests: a thread moves into a fresh one and everything it opens or starts belongs there. They
//! have no names, so they vanish with the thread and cannot collide with anybody's.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Whether namespaces can be made here. When not: says why and the test returns, but with `LANRAGE_LAB=must` it panics.
pub(crate) fn possible() -> bool {
    let why = if !cfg!(target_os = "linux") {
        "this is not Linux"
    } else if File::open("/dev/net/tun").is_err() {
        "/dev/net/tun cannot be opened"
    } else if std::thread::spawn(unshare).join().expect("a thread that only unshares").is_err() {
        "no permission to make a network namespace (not root)"
    } else if Command::new("ip").arg("-V").output().is_err() {
        "the program `ip` (iproute2) is missing"
    } else {
        return true;
    };
    assert!(std::env::var("LANRAGE_LAB").as_deref() != Ok("must"), "the lab must run, but {why}");
    io::Write::write_all(&mut io::stderr(), format!("NOT RUN: {why}\n").as_bytes()).expect("standard error");
    false
}

fn unshare() -> io::Result<()> {
    // SAFETY: a plain system call without pointers; it concerns only the calling thread.
    #[expect(unsafe_code, reason = "std has no unshare")]
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Moves the calling thread into a fresh namespace with its loopback up.
pub(crate) fn enter_new() {
    unshare().expect("a new network namespace");
    ip("link set lo up");
}

/// Runs `body` on a thread in a fresh namespace and passes its panics on.
pub(crate) fn inside<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        enter_new();
        body()
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// `ip` with these words, in the calling thread's namespace.
pub(crate) fn ip(words: &str) -> String {
    let output = Command::new("ip").args(words.split_whitespace()).output().expect("ip runs");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("ip writes text")
}

type Job = Box<dyn FnOnce() + Send>;

/// Another namespace, with a thread that lives there and does what it is told.
pub(crate) struct Elsewhere {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    namespace: File,
}

impl Elsewhere {
    /// A fresh namespace.
    pub(crate) fn new() -> Self {
        let (jobs, todo) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            enter_new();
            tell.send(File::open("/proc/thread-self/ns/net").expect("the own namespace")).expect("told");
            todo.into_iter().for_each(|job| job());
        });
        let namespace = told.recv().expect("the thread says where it is");
        Self { jobs: Some(jobs), thread: Some(thread), namespace }
    }

    /// Joins the calling thread's namespace and this one by a cable: `here` on our side, `there` on the other.
    pub(crate) fn cable(&self, here: &str, there: &str) {
        ip(&format!("link add {here} type veth peer name {there}"));
        ip(&format!("link set {there} netns {}", self.path()));
    }

    /// The namespace as `ip` takes it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespace.as_raw_fd())
    }

    /// Does something there and waits for it.
    pub(crate) fn run<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job: Job = Box::new(move || {
            let _ = tell.send(body());
        });
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).expect("the thread lives");
        told.recv().expect("what was done there did not panic")
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
