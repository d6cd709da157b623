//! The ports of a program's sockets, read from /proc.

use super::Program;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The ports of a program; `None` when it does not run.
pub(super) fn ports(program: &Program) -> Option<BTreeSet<u16>> {
    let pids = pids(program);
    if pids.is_empty() {
        return None;
    }
    let sockets: BTreeSet<u64> = pids.iter().flat_map(|pid| sockets(*pid)).collect();
    // Processes of one program share a network namespace, or are looked at one by one.
    let tables = ["udp", "udp6", "tcp", "tcp6"];
    let texts = pids.iter().flat_map(|pid| {
        tables.map(|t| fs::read_to_string(format!("/proc/{pid}/net/{t}")).unwrap_or_default())
    });
    Some(texts.flat_map(|text| bound(&text, &sockets)).collect())
}

fn pids(program: &Program) -> BTreeSet<u32> {
    let all: Vec<u32> = fs::read_dir("/proc")
        .map(|dir| dir.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect())
        .unwrap_or_default();
    match program {
        Program::Named(name) => all.into_iter().filter(|pid| is_named(*pid, name)).collect(),
        Program::Pids(wanted) => {
            let parents: Vec<(u32, u32)> = all.iter().filter_map(|pid| Some((*pid, parent(*pid)?))).collect();
            let mut found: BTreeSet<u32> = wanted.iter().copied().filter(|pid| all.contains(pid)).collect();
            loop {
                let more: Vec<u32> = parents
                    .iter()
                    .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
                    .map(|(pid, _)| *pid)
                    .collect();
                if more.is_empty() {
                    return found;
                }
                found.extend(more);
            }
        }
    }
}

/// By the kernel's name for it (cut to 15 bytes), or by the file that it or its interpreter runs.
fn is_named(pid: u32, name: &str) -> bool {
    if pid == std::process::id() {
        return false;
    }
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let comm = comm.trim_end();
    if comm == name || name.len() > 15 && name.get(..15) == Some(comm) {
        return true;
    }
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let file =
        |word: &[u8]| Path::new(&*String::from_utf8_lossy(word)).file_name().is_some_and(|f| f == name);
    // The interpreter and its script; what follows are arguments, which may name anything.
    line.split(|b| *b == 0).filter(|word| !word.starts_with(b"-")).take(2).any(file)
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything.
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn sockets(pid: u32) -> Vec<u64> {
    let Ok(dir) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let inode = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    dir.filter_map(|entry| inode(entry.ok()?)).collect()
}

/// The local ports of these sockets in a table of /proc/net.
fn bound(table: &str, sockets: &BTreeSet<u64>) -> Vec<u16> {
    let port = |line: &str| {
        let mut words = line.split_whitespace();
        let local = words.nth(1)?;
        let inode: u64 = words.nth(7)?.parse().ok()?;
        let port = u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?;
        (sockets.contains(&inode) && port > 0).then_some(port)
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn the_ports_of_a_process_are_those_of_its_sockets() {
        let (a, b) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("[::1]:0"));
        let own = ports(&Program::Pids(vec![std::process::id()])).unwrap();
        assert!(own.contains(&a.local_addr().unwrap().port()), "{own:?}");
        if let Ok(b) = b {
            assert!(own.contains(&b.local_addr().unwrap().port()), "{own:?}");
        }
        assert_eq!(ports(&Program::Named("no such program runs here".into())), None);
    }

    #[test]
    fn a_program_is_known_by_its_name_or_its_script_but_not_by_an_argument() {
        let mut child =
            std::process::Command::new("/bin/sh").args(["-c", "sleep 30; :", "an-argument"]).spawn().unwrap();
        let named = |name: &str| pids(&Program::Named(name.into())).contains(&child.id());
        // Between its birth and its `exec` the child still bears our own name.
        let begun = std::time::Instant::now();
        while !named("sh") && begun.elapsed().as_secs() < 10 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let known = (named("sh"), named("an-argument"));
        let family = pids(&Program::Pids(vec![std::process::id()]));
        let inherited = family.contains(&child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((known, inherited), ((true, false), true));
    }
}
