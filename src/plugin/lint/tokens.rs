//! Luau source as tokens with their places. Meant for sources that Luau's own compiler has accepted: what it does not
//! know it passes over, one byte at a time.

use std::ops::Range;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or a keyword.
    Word,
    /// A number or a text: a value that needs no looking into.
    Value,
    /// Everything else.
    Sign,
}

/// A token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    pub(super) text: &'t str,
    pub(super) at: usize,
}

impl Token<'_> {
    pub(super) const fn span(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }
}

/// Longest first.
const SIGNS: [&str; 20] = [
    "...", "..=", "//=", "::", "->", "==", "~=", "<=", ">=", "..", "+=", "-=", "*=", "/=", "%=", "^=", "//",
    "<", ">", "=",
];

/// All tokens, comments left out. A text with `{values}` in it becomes the values, as if joined by `..`.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { text, at: 0, out: Vec::new() };
    lexer.run(false);
    lexer.out
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    out: Vec<Token<'t>>,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Up to the end, or to the brace that ends a value inside a text.
    fn run(&mut self, inside: bool) {
        let mut braces = 0_usize;
        while let Some(first) = self.rest().chars().next() {
            let rest = self.rest();
            match first {
                c if c.is_whitespace() => self.at += c.len_utf8(),
                '-' if rest.starts_with("--") => self.comment(),
                '}' if inside && braces == 0 => return,
                c if c.is_alphabetic() || c == '_' => {
                    self.push(Kind::Word, |c| c.is_alphanumeric() || c == '_');
                }
                c if c.is_ascii_digit() => self.number(),
                '.' if rest.chars().nth(1).is_some_and(|c| c.is_ascii_digit()) => self.number(),
                '"' | '\'' => self.quoted(first),
                '[' if long_open(rest).is_some() => {
                    let len = long_len(rest);
                    self.take(Kind::Value, len);
                }
                '`' => self.filled(),
                _ => {
                    braces += usize::from(first == '{');
                    braces = braces.saturating_sub(usize::from(first == '}'));
                    let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
                    let len = sign.map_or_else(|| first.len_utf8(), |sign| sign.len());
                    self.take(Kind::Sign, len);
                }
            }
        }
    }

    fn take(&mut self, kind: Kind, len: usize) {
        let text = self.rest().get(..len).unwrap_or_else(|| self.rest());
        self.out.push(Token { kind, text, at: self.at });
        self.at += text.len().max(1);
    }

    fn push(&mut self, kind: Kind, part: impl Fn(char) -> bool) {
        let rest = self.rest();
        let len = rest.find(|c| !part(c)).unwrap_or(rest.len());
        self.take(kind, len);
    }

    /// `0xff`, `1e-5`, `1_000`: a sign belongs to it behind an `e` of a number that is not hexadecimal.
    fn number(&mut self) {
        let bytes = self.rest().as_bytes();
        let hex = bytes.get(1).is_some_and(|b| b.eq_ignore_ascii_case(&b'x'));
        let mut len = 0;
        while let Some(byte) = bytes.get(len) {
            let before = len.checked_sub(1).and_then(|i| bytes.get(i));
            let signed =
                !hex && matches!(byte, b'+' | b'-') && before.is_some_and(|b| b.eq_ignore_ascii_case(&b'e'));
            let dots = *byte == b'.' && bytes.get(len + 1) != Some(&b'.');
            if !(byte.is_ascii_alphanumeric() || *byte == b'_' || dots || signed) {
                break;
            }
            len += 1;
        }
        self.take(Kind::Value, len);
    }

    fn quoted(&mut self, quote: char) {
        let mut escaped = false;
        let rest = self.rest();
        let end = rest.char_indices().skip(1).find(|(_, c)| {
            let ends = !escaped && (*c == quote || *c == '\n');
            escaped = !escaped && *c == '\\';
            ends
        });
        let len = end.map_or(rest.len(), |(at, c)| at + c.len_utf8());
        self.take(Kind::Value, len);
    }

    /// `text {value} text`: the values as tokens in parentheses between empty texts.
    fn filled(&mut self) {
        let start = self.at;
        self.at += 1;
        let quote = self.text.get(start..start + 1).unwrap_or_default();
        self.out.push(Token { kind: Kind::Value, text: quote, at: start });
        let mut escaped = false;
        while let Some(c) = self.rest().chars().next() {
            let here = self.text.get(self.at..self.at + c.len_utf8()).unwrap_or_default();
            match c {
                '`' | '\n' if !escaped => {
                    self.at += 1;
                    return;
                }
                '{' if !escaped => {
                    for sign in ["..", "("] {
                        self.out.push(Token { kind: Kind::Sign, text: sign, at: self.at });
                    }
                    self.at += 1;
                    self.run(true);
                    self.out.push(Token { kind: Kind::Sign, text: ")", at: self.at });
                }
                _ => {}
            }
            escaped = !escaped && here == "\\";
            if !self.rest().is_empty() {
                self.at += self.rest().chars().next().map_or(1, char::len_utf8);
            }
        }
    }

    fn comment(&mut self) {
        let rest = self.rest();
        let behind = rest.get(2..).unwrap_or_default();
        self.at += if long_open(behind).is_some() {
            2 + long_len(behind)
        } else {
            rest.find('\n').unwrap_or(rest.len())
        };
    }
}

/// The `=` between the brackets of `[==[`.
fn long_open(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('[')?;
    let level = inner.len() - inner.trim_start_matches('=').len();
    inner.get(level..)?.starts_with('[').then_some(level)
}

fn long_len(text: &str) -> usize {
    let level = long_open(text).unwrap_or(0);
    let close = format!("]{}]", "=".repeat(level));
    text.find(&close).map_or(text.len(), |at| at + close.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        tokens(text).iter().map(|token| token.text).collect()
    }

    #[test]
    fn sources_become_tokens() {
        assert_eq!(words("local a = b.c -- d\nx()"), ["local", "a", "=", "b", ".", "c", "x", "(", ")"]);
        assert_eq!(words("--[[ a\nb ]] c [==[ d ]] ]==] e"), ["c", "[==[ d ]] ]==]", "e"]);
        assert_eq!(
            words("'a\\'b' .. \"c\" 1e-5 0xff 1..2"),
            ["'a\\'b'", "..", "\"c\"", "1e-5", "0xff", "1", "..", "2"]
        );
        assert_eq!(words("a::number b->c x..=y"), ["a", "::", "number", "b", "->", "c", "x", "..=", "y"]);
    }

    #[test]
    fn values_inside_a_text_are_seen() {
        assert_eq!(
            words("`a {b} \\{c} {d({})}` e"),
            ["`", "..", "(", "b", ")", "..", "(", "d", "(", "{", "}", ")", ")", "e"]
        );
    }

    #[test]
    fn halves_of_anything_end() {
        for text in ["\"abc", "`a {b", "[[", "--[[", "0x", "`", "'\\", "\u{e4}\u{fffd} \u{1}"] {
            let _ = words(text);
        }
    }
}
