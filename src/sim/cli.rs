//! `lanrage sim`: many seeds, or the whole story of one.

use super::Outcome;
use super::run::tell;
use super::scenario::Scenario;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
usage: lanrage sim [--seed N] [--seeds COUNT] [--nat] [--trace] [--bytes]
       lanrage sim --file FILE [--trace]

  --seed N        the first seed (0)
  --seeds COUNT   how many seeds (1)
  --nat           in worlds with NATs and relays (other stories than without)
  --trace         print every event
  --bytes         print the bytes of the seed's story, as in tests/seeds/
  --file FILE     tell the story in this file
";

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Asked {
    from: u64,
    count: u64,
    trace: bool,
    nat: bool,
    bytes: bool,
    file: Option<String>,
}

impl Asked {
    fn bytes_of(&self, seed: u64) -> Vec<u8> {
        if self.nat { Scenario::nat_bytes_of(seed) } else { Scenario::bytes_of(seed) }
    }
}

/// Runs `lanrage sim` with the arguments behind it. Fails when any story breaks a rule; 2 is wrong usage.
#[must_use]
pub fn command(args: impl Iterator<Item = String>) -> ExitCode {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let asked = match parse(args) {
        Ok(asked) => asked,
        Err(why) => {
            // Nobody can be told when standard error is closed.
            let _ = write!(err, "{why}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let result = match &asked.file {
        Some(file) => tell_file(file, asked.trace, &mut out),
        None if asked.bytes => print_bytes(&asked.bytes_of(asked.from), &mut out),
        None => run(&asked, &mut out),
    };
    match result {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(err, "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `count` seeds from `from` on; with `trace`, prints every event of each. Fails when any seed breaks a rule.
#[must_use]
pub fn cli(from: u64, count: u64, trace: bool) -> ExitCode {
    let asked = Asked { from, count, trace, ..Asked::default() };
    match run(&asked, &mut io::stdout().lock()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { count: 1, ..Asked::default() };
    let number = |flag: &str, value: Option<String>| {
        let value = value.ok_or_else(|| format!("{flag} wants a number"))?;
        value.parse::<u64>().map_err(|_| format!("{flag} wants a number, not `{value}`"))
    };
    while let Some(flag) = args.next() {
        match flag.as_str() {
            "--seed" => asked.from = number(&flag, args.next())?,
            "--seeds" => asked.count = number(&flag, args.next())?,
            "--trace" => asked.trace = true,
            "--nat" => asked.nat = true,
            "--bytes" => asked.bytes = true,
            "--file" => asked.file = Some(args.next().ok_or("--file wants a file")?),
            _ => return Err(format!("`{flag}` is not known here")),
        }
    }
    Ok(asked)
}

fn print_bytes(bytes: &[u8], out: &mut impl Write) -> io::Result<u64> {
    for line in bytes.chunks(16) {
        let hex: Vec<String> = line.iter().map(|b| format!("{b:02x}")).collect();
        writeln!(out, "{}", hex.join(" "))?;
    }
    Ok(0)
}

/// Reads a story's bytes written in hexadecimal; white space does not matter.
///
/// # Errors
/// The position of the first character that is no hexadecimal digit, or a message about an odd number of them.
pub fn read_hex(text: &str) -> Result<Vec<u8>, String> {
    let mut digits = Vec::new();
    for (at, c) in text.chars().enumerate().filter(|(_, c)| !c.is_whitespace()) {
        let digit =
            c.to_digit(16).ok_or_else(|| format!("`{c}` at character {} is not hexadecimal", at + 1))?;
        digits.push(digit as u8);
    }
    match digits.as_chunks() {
        (pairs, []) => Ok(pairs.iter().map(|[high, low]| high << 4 | low).collect()),
        (_, _) => Err("an odd number of hexadecimal digits: something was cut off".to_owned()),
    }
}

fn tell_file(file: &str, trace: bool, out: &mut impl Write) -> io::Result<u64> {
    let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, format!("{file}: {what}"));
    let text = std::fs::read_to_string(file).map_err(|e| io::Error::new(e.kind(), format!("{file}: {e}")))?;
    let outcome = tell(&read_hex(&text).map_err(bad)?, trace);
    report(file, &outcome, true, out)?;
    Ok(u64::from(!outcome.holds()))
}

/// How many seeds failed.
fn run(asked: &Asked, out: &mut impl Write) -> io::Result<u64> {
    let Asked { from, count, trace, .. } = *asked;
    let (mut failed, mut owed, mut copies, mut events) = (0, 0, 0, 0);
    let mut lasted = Duration::ZERO;
    for seed in from..from.saturating_add(count) {
        let bytes = asked.bytes_of(seed);
        // A panic in a node is a finding like any other; the seeds after it are still worth a look.
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| tell(&bytes, trace))) else {
            failed += 1;
            writeln!(out, "seed {seed}: PANIC")?;
            continue;
        };
        owed += outcome.owed;
        copies += outcome.copies;
        events += outcome.events;
        lasted += outcome.lasted;
        failed += u64::from(!outcome.holds());
        report(&format!("seed {seed}"), &outcome, trace || count == 1, out)?;
    }
    let hours = lasted.as_secs() / 3600;
    writeln!(
        out,
        "{count} seeds, {failed} failed; {hours} hours of party, {events} events, {copies} packets heard,"
    )?;
    writeln!(out, "{owed} of them owed exactly once")?;
    Ok(failed)
}

fn report(name: &str, outcome: &Outcome, full: bool, out: &mut impl Write) -> io::Result<()> {
    for line in &outcome.lines {
        writeln!(out, "{line}")?;
    }
    if outcome.holds() && !full {
        return Ok(());
    }
    let Outcome { mood, pcs, steps, hash, .. } = outcome;
    let verdict = if outcome.holds() { "holds" } else { "FAILS" };
    writeln!(out, "{name}: {verdict}  {mood:?}, {pcs} computers, {steps} steps, hash {hash:016x}")?;
    for violation in &outcome.violations {
        writeln!(out, "  {:>10.3} s  {}", violation.at.0.as_secs_f64(), violation.what)?;
    }
    if outcome.more > 0 {
        writeln!(out, "  and {} more", outcome.more)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<Asked, String> {
        parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_are_read_or_refused_with_the_reason() {
        let two = Asked { from: 7, count: 2, trace: true, nat: true, ..Asked::default() };
        assert_eq!(asked("--seed 7 --trace --nat --seeds 2"), Ok(two));
        assert_eq!(asked("--seed x").unwrap_err(), "--seed wants a number, not `x`");
        assert_eq!(asked("--seeds").unwrap_err(), "--seeds wants a number");
        assert_eq!(asked("--sed 7").unwrap_err(), "`--sed` is not known here");
    }

    #[test]
    fn bytes_are_printed_and_read_back() {
        let mut text = Vec::new();
        print_bytes(&Scenario::bytes_of(7), &mut text).unwrap();
        assert_eq!(read_hex(std::str::from_utf8(&text).unwrap()), Ok(Scenario::bytes_of(7)));
        assert_eq!(read_hex("0g"), Err("`g` at character 2 is not hexadecimal".to_owned()));
        assert!(read_hex("012").unwrap_err().contains("odd"));
    }
}
