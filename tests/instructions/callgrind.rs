//! Runs this program under callgrind, tells it when to count, and reads what it counted.

use super::table::Cost;
use std::collections::BTreeMap;
use std::process::Command;

/// Runs the test `test` of this program with the variable `counting` set; costs by scenario.
pub(crate) fn run(test: &str, counting: &str) -> BTreeMap<String, Cost> {
    let folder = tempfile::tempdir().expect("a folder");
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=callgrind", "--instr-atstart=no"])
        .args(["--compress-strings=no", "--compress-pos=no", "--dump-line=no"])
        .arg(format!("--callgrind-out-file={}", folder.path().join("counts").display()))
        .arg(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--test-threads=1", "--nocapture"])
        .env(counting, "1")
        // What looks for a library's function at the first call would be counted there.
        .env("LD_BIND_NOW", "1");
    let output = valgrind.output().expect("valgrind starts");
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{wrong}");
    let dumps = std::fs::read_dir(folder.path()).expect("the folder");
    let texts = dumps.map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a dump"));
    texts.filter_map(|text| scenario(&String::from_utf8_lossy(&text))).collect()
}

/// Counts what happens in `work`, which are so many packets of this scenario.
pub(crate) fn counted(name: &str, packets: usize, work: &mut dyn FnMut()) {
    let name = format!("{packets} {name}\0");
    // Not by what callgrind calls collecting: without it instructions are left out, and calls are not.
    request(START_INSTRUMENTATION, "");
    work();
    request(DUMP_STATS_AT, &name);
    request(STOP_INSTRUMENTATION, "");
}

// Of `callgrind.h`: what a program may ask for, and the mark of this tool.
const TOOL: usize = (b'C' as usize) << 24 | (b'T' as usize) << 16;
const DUMP_STATS_AT: usize = TOOL + 3;
const START_INSTRUMENTATION: usize = TOOL + 4;
const STOP_INSTRUMENTATION: usize = TOOL + 5;

/// Asks valgrind for something; outside of it nothing happens. `text` ends with a zero byte, if it is used.
fn request(what: usize, text: &str) {
    let words = [what, text.as_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: the sequence of `valgrind.h` for this processor. It turns a register around twice and leaves all as they
    // were; valgrind knows it, reads the six words and the text, which outlive it, and writes to rdx alone.
    #[expect(unsafe_code, reason = "valgrind is asked by an odd sequence of instructions")]
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") words.as_ptr(),
            inout("rdx") 0usize => _,
        );
    }
}

/// The scenario of a dump, and its cost for each packet; `None` for the rest after the last.
fn scenario(dump: &str) -> Option<(String, Cost)> {
    let trigger = dump.lines().find_map(|line| line.strip_prefix("desc: Trigger: Client Request: "))?;
    let (packets, name) = trigger.split_once(' ')?;
    let (packets, sum): (u64, _) = (packets.parse().ok()?, cost(dump));
    assert!(sum.instructions > 0, "nothing was counted: {name}");
    let each = |sum: u64| (sum + packets / 2) / packets;
    Some((name.into(), Cost { instructions: each(sum.instructions), calls: each(sum.calls) }))
}

/// What the lines of functions say themselves, those of the cipher and of the C library left out, and the calls of the latter.
fn cost(dump: &str) -> Cost {
    let (mut object, mut function) = ("", "");
    // Where a call leads; the object is only named when it is another.
    let (mut called, mut calls) = (None, None);
    let mut cost = Cost { instructions: 0, calls: 0 };
    for line in dump.lines() {
        match line.split_once('=') {
            Some(("ob", name)) => object = name,
            Some(("fn", name)) => function = name,
            Some(("cob", name)) => called = Some(name),
            Some(("calls", how)) => calls = how.split(' ').next().and_then(|n| n.parse::<u64>().ok()),
            Some(_) => {}
            None => {
                // A line of the source, and how many instructions.
                let numbers = line.split_once(' ').filter(|(at, _)| at.parse::<u64>().is_ok());
                let Some(instructions) = numbers.and_then(|(_, n)| n.parse::<u64>().ok()) else { continue };
                let is_left_out = is_c(object) || is_cipher(function);
                match (calls.take(), called.take()) {
                    // This line is what was spent behind the call, and the called function's own lines say it too.
                    (Some(calls), Some(to)) if is_c(to) && !is_left_out => cost.calls += calls,
                    (Some(_), _) => {}
                    (None, _) if !is_left_out => cost.instructions += instructions,
                    (None, _) => {}
                }
            }
        }
    }
    cost
}

/// Whether this file is a library of C: it has a copy for each processor.
fn is_c(object: &str) -> bool {
    let name = object.rsplit('/').next().unwrap_or_default();
    ["libc.", "libm.", "libgcc_s.", "ld-linux"].iter().any(|c| name.starts_with(c))
}

/// Whether this is a function of `ring`, or its assembly.
fn is_cipher(function: &str) -> bool {
    let name = function.trim_start_matches(['<', '&']);
    name.starts_with("ring::") || name.starts_with("ring_core")
}

#[test]
fn a_dump_is_read_without_ciphers_and_the_c_library() {
    let dump = "\
cmd: program the_counted_run --exact
positions: line
events: Ir
ob=/program
fl=a.rs
fn=lanrage::engine::node
17 100
18 0
cob=/lib/libc.so.6
cfi=memcpy.S
cfn=__memcpy_avx
calls=3 0
0 70
cfn=lanrage::string::other
calls=1 0
0 40
fn=lanrage::string::other
0 40
cfn=ring::aead::seal
calls=1 0
0 1000
fn=ring::aead::seal
0 300
cob=/lib/libc.so.6
cfn=__memcpy_avx
calls=9 0
0 700
fn=ring_core_0_17_14__seal
0 200

ob=/lib/libc.so.6
fn=__memcpy_avx
80 770

totals: 1410
";
    assert_eq!(cost(dump), Cost { instructions: 140, calls: 3 });
}
