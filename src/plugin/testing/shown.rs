//! Packets for people: bytes with their text beside them, and where two packets differ.

use std::fmt::Write;

/// Bytes in a line.
const WIDE: usize = 16;
/// Lines of a dump; a reader who needs more has the packet.
const LINES: usize = 24;

/// Offsets, bytes, text.
#[must_use]
pub fn dump(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "(no bytes)\n".into();
    }
    let mut out = String::new();
    for (i, row) in bytes.chunks(WIDE).take(LINES).enumerate() {
        let _ = writeln!(out, "{}", line(i * WIDE, row));
    }
    let left = bytes.len().saturating_sub(LINES * WIDE);
    if left > 0 {
        let _ = writeln!(out, "… and {left} bytes more");
    }
    out
}

/// Two packets: what both begin with in short, then the lines that differ, each as it is on both sides.
#[must_use]
pub fn difference(one: &str, before: &[u8], other: &str, after: &[u8]) -> String {
    let wide = one.chars().count().max(other.chars().count());
    let mut out = String::new();
    let rows = before.len().max(after.len()).div_ceil(WIDE);
    let row = |bytes: &[u8], i: usize| {
        bytes.get(i * WIDE..bytes.len().min((i + 1) * WIDE)).unwrap_or_default().to_vec()
    };
    let mut told = 0;
    for i in 0..rows {
        let (a, b) = (row(before, i), row(after, i));
        if a == b {
            continue;
        }
        if told == LINES {
            let _ = writeln!(out, "… and more");
            break;
        }
        told += 1;
        let _ = writeln!(out, "{one:wide$}  {}", line(i * WIDE, &a));
        let _ = writeln!(out, "{other:wide$}  {}", line(i * WIDE, &b));
        let _ = writeln!(out, "{:wide$}        {}", "", marks(&a, &b));
    }
    if before.len() != after.len() {
        let _ = writeln!(out, "{one} has {} bytes, {other} {}", before.len(), after.len());
    }
    out
}

/// Every line moved to the right.
#[must_use]
pub fn indented(text: &str, by: usize) -> String {
    text.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

/// Hexadecimal text as samples have it.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn line(at: usize, row: &[u8]) -> String {
    let mut out = format!("{at:04x}  ");
    for i in 0..WIDE {
        match row.get(i) {
            Some(byte) => drop(write!(out, "{byte:02x} ")),
            None => out.push_str("   "),
        }
    }
    out.push(' ');
    let tame = |b: &u8| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' };
    out.extend(row.iter().map(tame));
    out.trim_end().to_owned()
}

/// A mark below each byte that differs.
fn marks(a: &[u8], b: &[u8]) -> String {
    let mark = |i: usize| if a.get(i) == b.get(i) { "   " } else { "^^ " };
    (0..WIDE).map(mark).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_has_offsets_bytes_and_text() {
        assert_eq!(dump(b"[MOTD]a\0"), "0000  5b 4d 4f 54 44 5d 61 00                          [MOTD]a.\n");
        assert_eq!(dump(b""), "(no bytes)\n");
        assert!(dump(&[7; 1000]).ends_with("… and 616 bytes more\n"));
    }

    #[test]
    fn only_lines_that_differ_are_shown_with_marks() {
        let (mut before, mut after) = ([b'a'; 48], [b'a'; 48].to_vec());
        before[17] = b'x';
        after[17] = b'y';
        after.push(b'z');
        let text = difference("wanted", &before, "got", &after);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 7, "{text}");
        assert!(lines[0].starts_with("wanted  0010  61 78") && lines[1].starts_with("got     0010  61 79"));
        assert_eq!(lines[2], "                 ^^");
        assert_eq!(lines[6], "wanted has 48 bytes, got 49");
        assert_eq!(difference("a", &[1], "b", &[1]), "");
    }
}
