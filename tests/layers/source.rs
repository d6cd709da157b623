//! Reads Rust sources well enough to know what they name: comments and literals are blanked, `use` trees are expanded,
//! `super` is followed. Not a parser: it is meant for code that `rustfmt` and the compiler have already accepted.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// One source file of the package.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the package, with forward slashes.
    pub(crate) file: String,
    /// As it is on disk.
    pub(crate) text: String,
    /// Same length, with comments and literals blanked.
    code: String,
    /// Where test-only items are.
    tests: Vec<Range<usize>>,
    /// Bodies of `mod name { … }`.
    inline_modules: Vec<(String, Range<usize>)>,
}

/// A path that the code names, such as `crate::model::id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its segments, `crate` and `super` resolved away when it is one of ours.
    pub(crate) segments: Vec<String>,
    /// Whether it starts in this package.
    pub(crate) ours: bool,
    /// Whether it stands in a test.
    pub(crate) in_test: bool,
    /// From 1.
    pub(crate) line: usize,
}

impl Source {
    pub(crate) fn new(file: &str, text: &str) -> Self {
        let code = mask(text);
        let tests = test_items(&code);
        let inline_modules = inline_modules(&code);
        Self { file: file.into(), text: text.into(), code, tests, inline_modules }
    }

    pub(crate) fn read(root: &Path, path: &Path) -> Self {
        let file = path.strip_prefix(root).expect("below the package").to_string_lossy().replace('\\', "/");
        Self::new(&file, &std::fs::read_to_string(path).expect("a readable source file"))
    }

    /// The module this file is: `src/engine/lan/guard.rs` is `engine`, `lan`, `guard`.
    pub(crate) fn module(&self) -> Vec<String> {
        let path = self.file.trim_start_matches("src/").trim_end_matches(".rs");
        let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
        if parts.last().is_some_and(|last| last == "mod") || parts == ["lib"] {
            parts.pop();
        }
        parts
    }

    /// Every path with at least two segments, and whole crates brought in by `use name;`.
    pub(crate) fn paths(&self) -> Vec<Named> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some((start, word)) = next_word(&self.code, at) {
            at = start + word.len();
            if self.code[..start].trim_end().ends_with("::") || self.code[..start].ends_with('.') {
                continue;
            }
            let whole_crate = self.code[..start].trim_end().ends_with("use");
            let mut leaves = Vec::new();
            let end = path_tree(&self.code, start, &mut Vec::new(), &mut leaves);
            if end > at || whole_crate {
                found.extend(leaves.into_iter().map(|segments| self.named(start, segments)));
                at = end;
            }
        }
        found
    }

    /// Lines on which this word stands in the code (not in comments or literals), and whether in a test.
    pub(crate) fn word(&self, wanted: &str) -> Vec<(usize, bool)> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some((start, word)) = next_word(&self.code, at) {
            at = start + word.len();
            if word == wanted {
                found.push((self.line(start), self.in_test(start)));
            }
        }
        found
    }

    /// Functions: first line and number of lines, signature included.
    pub(crate) fn functions(&self) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some((start, word)) = next_word(&self.code, at) {
            at = start + word.len();
            let stop = self.code[at..].find(['{', ';']).map(|i| at + i);
            if word == "fn"
                && let Some(open) = stop.filter(|i| self.code[*i..].starts_with('{'))
            {
                let first = self.line(start);
                found.push((first, self.line(closing(&self.code, open)) - first + 1));
            }
        }
        found
    }

    fn named(&self, start: usize, segments: Vec<String>) -> Named {
        let (line, in_test) = (self.line(start), self.in_test(start));
        let mut here = self.module();
        let around = self.inline_modules.iter().filter(|(_, body)| body.contains(&start));
        here.extend(around.map(|(name, _)| name.clone()));
        let mut rest = segments.as_slice();
        let mut ours = true;
        match rest.first().map(String::as_str) {
            Some("crate" | "lanrage") => (here, rest) = (Vec::new(), &rest[1..]),
            Some("self") => rest = &rest[1..],
            Some("super") => {
                while rest.first().is_some_and(|s| s == "super") {
                    here.pop();
                    rest = &rest[1..];
                }
            }
            _ => ours = false,
        }
        let segments = if ours { here.into_iter().chain(rest.iter().cloned()).collect() } else { segments };
        Named { segments, ours, in_test, line }
    }

    fn line(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }

    fn in_test(&self, offset: usize) -> bool {
        !self.file.starts_with("src/") || self.tests.iter().any(|range| range.contains(&offset))
    }
}

/// All Rust files below a folder, in order.
pub(crate) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.expect("a readable folder").path()) {
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn next_word(code: &str, from: usize) -> Option<(usize, &str)> {
    let bytes = code.as_bytes();
    let start = (from..bytes.len()).find(|i| is_word(bytes[*i]))?;
    let end = (start..bytes.len()).find(|i| !is_word(bytes[*i])).unwrap_or(bytes.len());
    Some((start, &code[start..end]))
}

fn skip_space(code: &str, from: usize) -> usize {
    from + code[from..].len() - code[from..].trim_start().len()
}

/// Follows `a::b::{c, d::e}` from a word on; leaves get their whole path. Returns where it ends.
fn path_tree(code: &str, start: usize, before: &mut Vec<String>, leaves: &mut Vec<Vec<String>>) -> usize {
    let depth = before.len();
    let mut at = start;
    loop {
        if code[at..].starts_with('{') {
            at = group(code, at + 1, before, leaves);
            break;
        }
        let Some((word_at, word)) = next_word(code, at).filter(|(i, _)| *i == at) else {
            if before.len() > depth {
                leaves.push(before.clone());
            }
            break;
        };
        before.push(word.to_owned());
        at = word_at + word.len();
        let after = skip_space(code, at);
        if !code[after..].starts_with("::") {
            leaves.push(before.clone());
            break;
        }
        at = skip_space(code, after + 2);
    }
    before.truncate(depth);
    at
}

fn group(code: &str, from: usize, before: &mut Vec<String>, leaves: &mut Vec<Vec<String>>) -> usize {
    let mut at = skip_space(code, from);
    while at < code.len() && !code[at..].starts_with('}') {
        let end = path_tree(code, at, before, leaves);
        // past what this reader does not know (`*`, `as name`), up to the next branch
        at = code[end..].find([',', '}']).map_or(code.len(), |i| end + i);
        if code[at..].starts_with(',') {
            at = skip_space(code, at + 1);
        }
    }
    (at + 1).min(code.len())
}

fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (i, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return i;
                }
            }
            _ => {}
        }
    }
    code.len() - 1
}

fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for start in
        ["#[cfg(test)]", "#[cfg(all(test", "#[test]"].iter().flat_map(|mark| code.match_indices(mark))
    {
        let body = code[start.0..].find(['{', ';']).map_or(code.len() - 1, |i| start.0 + i);
        let end = if code[body..].starts_with('{') { closing(code, body) } else { body };
        found.push(start.0..end + 1);
    }
    found
}

fn inline_modules(code: &str) -> Vec<(String, Range<usize>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((start, word)) = next_word(code, at) {
        at = start + word.len();
        if word != "mod" {
            continue;
        }
        let Some((name_at, name)) = next_word(code, at) else { break };
        let open = skip_space(code, name_at + name.len());
        if code[open..].starts_with('{') {
            found.push((name.to_owned(), open..closing(code, open)));
        }
    }
    found
}

/// Blanks comments and literals, keeping every line where it is.
fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    out.iter_mut().filter(|b| !b.is_ascii()).for_each(|b| *b = b'_');
    String::from_utf8(out).expect("only ASCII is left")
}

/// Where the comment or literal that begins here ends; the same place if none begins here.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let after_word = at > 0 && is_word(bytes[at - 1]);
    if rest.starts_with(b"//") {
        return rest.iter().position(|b| *b == b'\n').map_or(bytes.len(), |i| at + i);
    }
    if rest.starts_with(b"/*") {
        return block_comment_end(bytes, at);
    }
    if !after_word && let Some(end) = raw_string_end(bytes, at) {
        return end;
    }
    if rest.starts_with(b"\"") {
        return quoted_end(bytes, at + 1, b'"');
    }
    // a character, not a lifetime: `'a'` and `'\n'`, but not `'a`
    if rest.starts_with(b"'")
        && (rest.get(1) == Some(&b'\\') || rest.iter().take(6).skip(2).any(|b| *b == b'\''))
    {
        let lifetime =
            rest.get(1).is_some_and(|b| is_word(*b)) && rest.get(2) != Some(&b'\'') && rest[1].is_ascii();
        if !lifetime {
            return quoted_end(bytes, at + 1, b'\'');
        }
    }
    at
}

fn quoted_end(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let mut i = at + usize::from(bytes[at] == b'b' || bytes[at] == b'c');
    if bytes.get(i) != Some(&b'r') {
        return None;
    }
    i += 1;
    let hashes = bytes[i..].iter().take_while(|b| **b == b'#').count();
    i += hashes;
    if bytes.get(i) != Some(&b'"') {
        return None;
    }
    let close = [&b"\""[..], &vec![b'#'; hashes]].concat();
    let found = bytes[i + 1..].windows(close.len()).position(|w| w == close);
    Some(found.map_or(bytes.len(), |p| i + 1 + p + close.len()))
}

fn block_comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut i, mut depth) = (at, 0_usize);
    while i < bytes.len() {
        if bytes[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if bytes[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    bytes.len()
}
