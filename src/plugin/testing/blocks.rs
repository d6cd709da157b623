//! Files of `[name]` blocks with `key: value` lines (samples, expectations of captures), changed without losing what a
//! person wrote: comments, order and spacing of everything that is not changed stay.

/// A file, line by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blocks {
    lines: Vec<String>,
}

/// A block: the number of its `[name]` line, counted from 1, and the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Its line.
    pub(super) line: usize,
    /// What stands between the brackets.
    pub(super) name: String,
}

/// Hexadecimal digits in a line.
const WIDE: usize = 64;

impl Blocks {
    /// Reads a file.
    #[must_use]
    pub(super) fn read(text: &str) -> Self {
        Self { lines: text.lines().map(str::to_owned).collect() }
    }

    /// The file again.
    #[must_use]
    pub(super) fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// All blocks, in order.
    #[must_use]
    pub(super) fn blocks(&self) -> Vec<Block> {
        let named = |(i, line): (usize, &String)| {
            let name = title(line)?;
            Some(Block { line: i + 1, name: name.to_owned() })
        };
        self.lines.iter().enumerate().filter_map(named).collect()
    }

    /// The value of a key of the block at `line`; lines that go on are joined by a space.
    #[must_use]
    pub(super) fn get(&self, line: usize, key: &str) -> Option<String> {
        let (from, to) = self.find(line, key)?;
        let lines = self.lines.get(from..to)?;
        let (_, first) = lines.first()?.split_once(':')?;
        let rest = lines.iter().skip(1).map(|line| line.trim());
        Some(std::iter::once(first.trim()).chain(rest).collect::<Vec<_>>().join(" ").trim().to_owned())
    }

    /// Keys of the block at `line`, with their lines.
    #[must_use]
    pub(super) fn keys(&self, line: usize) -> Vec<(usize, String)> {
        let key = |i: usize| {
            let text = self.lines.get(i)?;
            let (key, _) = text.split_once(':').filter(|_| is_entry(text))?;
            Some((i + 1, key.trim().to_owned()))
        };
        (line..self.end(line)).filter_map(key).collect()
    }

    /// Gives a key of the block at `line` a value, or takes the key away.
    pub(super) fn set(&mut self, line: usize, key: &str, value: Option<&str>) {
        let new: Vec<String> = value.map(|value| entry(key, value)).unwrap_or_default();
        match self.find(line, key) {
            Some((from, to)) => drop(self.lines.splice(from..to, new)),
            None => {
                let end = self.end(line);
                let last = (line..end).rev().find(|i| self.lines.get(*i).is_some_and(|l| !blank(l)));
                let at = last.map_or(line, |last| last + 1);
                drop(self.lines.splice(at..at, new));
            }
        }
    }

    /// Where a key's lines are, from and to.
    fn find(&self, line: usize, key: &str) -> Option<(usize, usize)> {
        let (at, _) = self.keys(line).into_iter().find(|(_, have)| have == key)?;
        let goes_on = |i: &usize| self.lines.get(*i).is_some_and(|l| l.starts_with(' ') && !blank(l));
        let end = (at..self.end(line)).find(|i| !goes_on(i)).unwrap_or_else(|| self.end(line));
        Some((at - 1, end))
    }

    /// The line of the next block, counted from 0.
    fn end(&self, line: usize) -> usize {
        (line..self.lines.len())
            .find(|i| self.lines.get(*i).is_some_and(|l| title(l).is_some()))
            .unwrap_or(self.lines.len())
    }
}

/// A key and its value as lines; long hexadecimal text is broken.
#[must_use]
pub(super) fn entry(key: &str, value: &str) -> Vec<String> {
    let is_hex = value.len() > WIDE && value.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_hex {
        return vec![format!("{key}: {value}")];
    }
    let bytes: Vec<char> = value.chars().collect();
    let rows = bytes.chunks(WIDE).map(|row| row.iter().collect::<String>());
    let indent = " ".repeat(key.len() + 2);
    rows.enumerate()
        .map(|(i, row)| if i == 0 { format!("{key}: {row}") } else { format!("{indent}{row}") })
        .collect()
}

fn title(line: &str) -> Option<&str> {
    if line.starts_with(' ') { None } else { line.trim().strip_prefix('[')?.strip_suffix(']') }
}

fn blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

fn is_entry(line: &str) -> bool {
    !line.starts_with(' ') && !blank(line) && title(line).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# one\n[a]\n# why\nhex: 01\n  02 03\nexpect: query\n\n# two\n[b]\nhex: 04\n";

    #[test]
    fn values_are_found_and_lines_that_go_on_are_joined() {
        let file = Blocks::read(TEXT);
        assert_eq!(file.text(), TEXT);
        let lines: Vec<usize> = file.blocks().iter().map(|block| block.line).collect();
        assert_eq!(lines, [2, 9]);
        assert_eq!(file.get(2, "hex").as_deref(), Some("01 02 03"));
        assert_eq!(file.get(9, "hex").as_deref(), Some("04"));
        assert_eq!(file.get(9, "expect"), None);
    }

    #[test]
    fn changes_keep_comments_and_other_blocks() {
        let mut file = Blocks::read(TEXT);
        file.set(9, "expect", Some("nothing"));
        file.set(2, "expect", Some("answer"));
        file.set(2, "rewritten", Some(&"ab".repeat(40)));
        file.set(2, "hex", None);
        let wanted = format!(
            "# one\n[a]\n# why\nexpect: answer\nrewritten: {}\n           {}\n\n# two\n[b]\nhex: 04\nexpect: nothing\n",
            "ab".repeat(32),
            "ab".repeat(8)
        );
        assert_eq!(file.text(), wanted);
    }
}
