//! Named threads and the two kinds of runtime: one current-thread runtime for the data thread, and a small
//! multi-thread one for everything slow (control planes, files, signals, people).

use crate::model::status::Trouble;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Runtime};

/// Workers of the slow runtime: one may be busy with a file while the other keeps sockets alive.
pub const SLOW_WORKERS: usize = 2;

/// Starts a thread that shows under this name in `top -H` and debuggers.
///
/// # Errors
/// `no_thread` when the system refuses another thread.
pub fn named<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, Trouble> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|e| no_thread(name, &e))
}

/// The runtime of the data thread: it runs on the thread that blocks on it and starts none of its own.
///
/// # Errors
/// `no_thread` when the system refuses what it needs.
pub fn data_runtime() -> Result<Runtime, Trouble> {
    Builder::new_current_thread().enable_all().build().map_err(|e| no_thread("data", &e))
}

/// The runtime for everything that is not packets.
///
/// # Errors
/// `no_thread` when the system refuses what it needs.
pub fn slow_runtime() -> Result<Runtime, Trouble> {
    Builder::new_multi_thread()
        .worker_threads(SLOW_WORKERS)
        .max_blocking_threads(8)
        .thread_name("slow")
        .enable_all()
        .build()
        .map_err(|e| no_thread("slow", &e))
}

/// Lets this process open as many files as the system allows at all. The usual limit of 1024 is an old habit for programs that
/// use `select`; at a server a few strangers could use it up.
#[cfg(unix)]
pub fn allow_many_files() {
    raise_files(libc::RLIM_INFINITY);
}

/// Lets this process open this many files, where the system allows it. Not more: the games that lanrage starts inherit the
/// limit, and some old programs close every file that they could have.
#[cfg(unix)]
pub fn allow_files(wanted: u16) {
    raise_files(wanted.into());
}

#[cfg(unix)]
#[expect(unsafe_code, reason = "the standard library has no call for the limits of a process")]
fn raise_files(wanted: libc::rlim_t) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a pointer to a whole `rlimit` that outlives them.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max.min(wanted.max(limit.rlim_cur));
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    if !raised {
        tracing::debug!(error = %std::io::Error::last_os_error(), "the limit of open files stays as it was");
    }
}

/// Other systems have no such limit that matters here.
#[cfg(not(unix))]
pub const fn allow_many_files() {}

/// Other systems have no such limit that matters here.
#[cfg(not(unix))]
pub const fn allow_files(_: u16) {}

/// What a panic said, for people.
#[must_use]
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given")
}

fn no_thread(name: &str, error: &std::io::Error) -> Trouble {
    Trouble::new(
        "no_thread",
        format!("the system refused the thread `{name}`: {error}"),
        "close other programs, or raise the limit of processes (`ulimit -u`)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn the_limit_of_files_is_raised_as_far_as_wanted_and_never_lowered() {
        let soft = || {
            let text = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
            let line = text.lines().find(|l| l.starts_with("Max open files")).map(str::to_owned);
            line.and_then(|l| l.split_whitespace().nth(3)?.parse::<u64>().ok())
        };
        let before = soft();
        allow_files(1);
        assert_eq!(soft(), before);
        allow_files(2048);
        assert!(soft() >= before.map(|n| n.min(2048)));
    }

    #[test]
    fn threads_carry_their_name_and_panics_their_text() {
        let named_thread = named("tested", || std::thread::current().name().map(str::to_owned)).unwrap();
        assert_eq!(named_thread.join().unwrap().as_deref(), Some("tested"));
        let panicked = named("panics", || panic!("number {}", 7)).unwrap().join().unwrap_err();
        assert_eq!(panic_text(&*panicked), "number 7");
    }
}
