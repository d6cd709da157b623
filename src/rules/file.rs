//! What the TOML of a profile says, with the position of every word.
//!
//! A `Section` is a table from which keys are taken one by one; what nobody took is an unknown key, told with the nearest
//! known one. Everything wrong is collected in `Findings`, so that one look at a file shows all of it. Values are read
//! strictly: a wrong kind of value is a finding and no value.

use super::diagnostic::{Diagnostic, Place, Source};
use super::nearest::nearest;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// All that is wrong with one file.
#[derive(Debug)]
pub(crate) struct Findings {
    source: Arc<Source>,
    list: Vec<Diagnostic>,
}

impl Findings {
    pub(crate) const fn new(source: Arc<Source>) -> Self {
        Self { source, list: Vec::new() }
    }

    pub(crate) fn place(&self, span: &Range<usize>) -> Place {
        Place::new(&self.source, span.clone())
    }

    /// Something is wrong here.
    pub(crate) fn add(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.push(span, message.into(), None);
    }

    /// Something is wrong here, and this may help.
    pub(crate) fn add_with_help(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(span, message.into(), Some(help.into()));
    }

    fn push(&mut self, span: &Range<usize>, message: String, help: Option<String>) {
        self.list.push(Diagnostic { place: self.place(span), message, help, also: None });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Everything found, in the order of the file; `None` when nothing was.
    pub(crate) fn finish(mut self) -> Option<Vec<Diagnostic>> {
        self.list.sort_by_key(|d| (d.place.line(), d.place.column()));
        (!self.list.is_empty()).then_some(self.list)
    }
}

/// A table that is being read.
#[derive(Debug)]
pub(crate) struct Section<'t> {
    table: &'t DeTable<'t>,
    /// Where it starts.
    pub(crate) span: Range<usize>,
    /// What people call it, such as `[[rule]]`.
    name: &'static str,
    known: Vec<&'static str>,
}

impl<'t> Section<'t> {
    pub(crate) const fn new(table: &'t DeTable<'t>, span: Range<usize>, name: &'static str) -> Self {
        Self { table, span, name, known: Vec::new() }
    }

    /// The value of a key, if the file has it. Every key that a section may have is asked for, present or not.
    pub(crate) fn take(&mut self, key: &'static str) -> Option<Item<'t>> {
        self.known.push(key);
        let value = self.table.get(key)?;
        Some(Item { key, value: value.get_ref(), span: value.span() })
    }

    /// The value of a key that the file must have.
    pub(crate) fn need(&mut self, key: &'static str, findings: &mut Findings) -> Option<Item<'t>> {
        let item = self.take(key);
        if item.is_none() {
            findings.add(&self.span, format!("missing key `{key}` in {}", self.name));
        }
        item
    }

    /// Reports every key that nobody asked for.
    pub(crate) fn finish(self, findings: &mut Findings) {
        for key in self.table.keys() {
            let word = key.get_ref().as_ref();
            if self.known.contains(&word) {
                continue;
            }
            let help = nearest(word, self.known.iter().copied()).map_or_else(
                || format!("known here: {}", quoted(self.known.iter().copied())),
                |near| format!("did you mean `{near}`?"),
            );
            findings.add_with_help(
                &key.span(),
                format!("unknown key `{}` in {}", shown(word), self.name),
                help,
            );
        }
    }
}

/// A value that is being read.
#[derive(Debug, Clone)]
pub(crate) struct Item<'t> {
    /// Its key.
    pub(crate) key: &'static str,
    value: &'t DeValue<'t>,
    /// Where it is.
    pub(crate) span: Range<usize>,
}

impl<'t> Item<'t> {
    /// The value or, when it is a list, each value of the list.
    pub(crate) fn each(&self) -> Vec<Self> {
        match self.value {
            DeValue::Array(list) => list
                .iter()
                .map(|value| Item { key: self.key, value: value.get_ref(), span: value.span() })
                .collect(),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Table(_) => vec![self.clone()],
        }
    }

    /// The text, when the value is one.
    pub(crate) fn as_text(&self) -> Option<&'t str> {
        self.value.as_str()
    }

    /// The table, when the value is one.
    pub(crate) fn as_section(&self, name: &'static str) -> Option<Section<'t>> {
        self.value.as_table().map(|table| Section::new(table, self.span.clone(), name))
    }

    /// The whole number, when the value is one (and not beyond all reason).
    pub(crate) fn as_whole(&self) -> Option<i64> {
        let number = self.value.as_integer()?;
        i64::from_str_radix(number.as_str(), number.radix()).ok()
    }

    /// The number, with or without a point, when the value is one.
    pub(super) fn as_number(&self) -> Option<f64> {
        let point = self.value.as_float().and_then(|number| number.as_str().replace('_', "").parse().ok());
        point.or_else(|| self.as_whole().and_then(|n| i32::try_from(n).ok()).map(f64::from))
    }

    pub(crate) fn text(&self, findings: &mut Findings) -> Option<&'t str> {
        self.or_wrong(self.as_text(), "text", findings)
    }

    pub(crate) fn section(&self, name: &'static str, findings: &mut Findings) -> Option<Section<'t>> {
        self.or_wrong(self.as_section(name), "a table", findings)
    }

    pub(crate) fn truth(&self, findings: &mut Findings) -> Option<bool> {
        self.or_wrong(self.value.as_bool(), "true or false", findings)
    }

    pub(crate) fn whole(&self, allowed: RangeInclusive<u16>, findings: &mut Findings) -> Option<u16> {
        let number = self.or_wrong(self.as_whole(), "a whole number", findings)?;
        let within = u16::try_from(number).ok().filter(|n| allowed.contains(n));
        if within.is_none() {
            let (low, high) = allowed.into_inner();
            findings.add(&self.span, format!("`{}` must be {low} to {high}, not {number}", self.key));
        }
        within
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(&self, words: &[(&'static str, T)], findings: &mut Findings) -> Option<T> {
        let text = self.text(findings)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let help = nearest(text, words.iter().map(|(word, _)| *word)).map_or_else(
                || format!("use one of {}", quoted(words.iter().map(|(word, _)| *word))),
                |near| format!("did you mean `{near}`?"),
            );
            findings.add_with_help(&self.span, format!("`{}` is no `{}`", shown(text), self.key), help);
        }
        found
    }

    /// Reports that the value is of the wrong kind.
    pub(crate) fn or_wrong<T>(&self, value: Option<T>, wanted: &str, findings: &mut Findings) -> Option<T> {
        if value.is_none() {
            let is = match self.value {
                DeValue::String(_) => "text",
                DeValue::Integer(_) => "a whole number",
                DeValue::Float(_) => "a number with a point",
                DeValue::Boolean(_) => "true or false",
                DeValue::Datetime(_) => "a date",
                DeValue::Array(_) => "a list",
                DeValue::Table(_) => "a table",
            };
            findings.add(&self.span, format!("`{}` must be {wanted}, not {is}", self.key));
        }
        value
    }
}

/// Words from a file, short and harmless enough for a message.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 40;
    let mut out: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        out.push('…');
    }
    out
}

fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
