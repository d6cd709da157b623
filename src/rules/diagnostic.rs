//! What is wrong with a profile: the file, the line, the column, a sentence, and what to try.
//!
//! A `Place` keeps the text it points into, so that a diagnostic can be shown long after the file was read, and so that
//! two profiles can be shown together when they contradict each other. Rendering is text in, text out; colours and
//! terminals belong to `ui`.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::ops::Range;
use std::sync::Arc;

/// A text with the name people know it by.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// A file name, or any other name.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// A piece of a source.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    source: Arc<Source>,
    span: Range<usize>,
}

impl Place {
    /// Points at the bytes `span` of `source`; a span outside the text points at its end.
    #[must_use]
    pub fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        let text = &source.text;
        let within = |mut at: usize| {
            at = at.min(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = within(span.start);
        Self { source: Arc::clone(source), span: start..within(span.end).max(start) }
    }

    /// The name of the file.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// The line, counted from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.before().matches('\n').count() + 1
    }

    /// The column in characters, counted from 1.
    #[must_use]
    pub fn column(&self) -> usize {
        self.before().rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1
    }

    fn before(&self) -> &str {
        self.source.text.get(..self.span.start).unwrap_or_default()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file(), self.line(), self.column())
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Place({self})")
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where.
    pub place: Place,
    /// What, in one sentence without a full stop.
    pub message: String,
    /// What to try.
    pub help: Option<String>,
    /// Another place that has to do with it, and what is there.
    pub also: Option<(Place, String)>,
}

impl Diagnostic {
    /// The whole story for a person at a terminal: the line of the file, underlined, and the help.
    #[must_use]
    pub fn render(&self) -> String {
        let mut group = Level::ERROR.primary_title(self.message.as_str()).element(
            Snippet::source(self.place.source.text.as_str())
                .path(self.place.file())
                .annotation(AnnotationKind::Primary.span(self.place.span.clone())),
        );
        if let Some((place, label)) = &self.also {
            group = group.element(
                Snippet::source(place.source.text.as_str())
                    .path(place.file())
                    .annotation(AnnotationKind::Context.span(place.span.clone()).label(label.as_str())),
            );
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        Renderer::plain().render(&[group])
    }
}

/// One line for logs and scripts: `file:line:column: message; help`.
impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        if let Some((place, label)) = &self.also {
            write!(f, " ({label}: {place})")?;
        }
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Diagnostic {}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Arc<Source> {
        Arc::new(Source { name: "a.toml".into(), text: "id = \"ä\"\nprot = 1\n".into() })
    }

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let s = source();
        assert_eq!(Place::new(&s, 0..2).to_string(), "a.toml:1:1");
        assert_eq!(Place::new(&s, 8..9).to_string(), "a.toml:1:8", "ä is two bytes and one column");
        assert_eq!(Place::new(&s, 10..14).to_string(), "a.toml:2:1");
    }

    #[test]
    fn places_outside_the_text_or_inside_a_character_do_no_harm() {
        let s = source();
        assert_eq!(Place::new(&s, 500..900).line(), 3);
        assert_eq!(Place::new(&s, 7..8).to_string(), "a.toml:1:7");
    }

    #[test]
    fn a_rendered_diagnostic_shows_the_line_and_the_help() {
        let s = source();
        let d = Diagnostic {
            place: Place::new(&s, 10..14),
            message: "unknown key `prot`".into(),
            help: Some("did you mean `port`?".into()),
            also: Some((Place::new(&s, 0..2), "see here".into())),
        };
        let text = d.render();
        for part in ["unknown key `prot`", "--> a.toml:2:1", "prot = 1", "^^^^", "did you mean", "see here"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert_eq!(
            d.to_string(),
            "a.toml:2:1: unknown key `prot` (see here: a.toml:1:1); did you mean `port`?"
        );
    }
}
