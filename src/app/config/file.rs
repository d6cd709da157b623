//! The config file: TOML to settings, each with its place in the file. Every mistake is told with line and column, and a key
//! that does not exist with the one that was probably meant.

use super::keys::{KEYS, Key, Kind, find};
use super::layers::{Origin, Raw};
use crate::app::failure::Failure;
use crate::rules::diagnostic::{Place, Source};
use crate::rules::nearest::nearest;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use toml::de::{DeTable, DeValue};

/// No config file of a person is longer.
const FILE_BYTES: u64 = 256 * 1024;

/// Reads a config file.
///
/// # Errors
/// When it cannot be read, is no TOML, or says something that no setting understands.
pub(super) fn read(path: &Path) -> Result<Vec<(&'static Key, Raw)>, Failure> {
    let unreadable = |why: String| {
        let what = format!("the config file {} cannot be read: {why}", path.display());
        Failure::new("config_unreadable", what, "name another file with --config FILE, or remove the option")
    };
    let text = read_text(path, FILE_BYTES).map_err(unreadable)?;
    parse(&path.display().to_string(), text)
}

/// The text of a file that a person named, or why there is none. Devices and pipes have no size that could be asked and may
/// never end, so the cap is on what is read.
pub(in crate::app) fn read_text(path: &Path, most: u64) -> Result<String, String> {
    let told = |e: std::io::Error| e.to_string();
    if std::fs::metadata(path).map_err(told)?.is_dir() {
        return Err("it is a folder".to_owned());
    }
    let mut text = Vec::new();
    std::fs::File::open(path).and_then(|f| f.take(most + 1).read_to_end(&mut text)).map_err(told)?;
    if text.len() as u64 > most {
        return Err(format!("it is larger than {} KiB", most / 1024));
    }
    String::from_utf8(text).map_err(|_| "it is not a text file (not UTF-8)".to_owned())
}

/// The same from a text.
pub(super) fn parse(name: &str, text: String) -> Result<Vec<(&'static Key, Raw)>, Failure> {
    let source = Arc::new(Source { name: name.to_owned(), text });
    let table = DeTable::parse(&source.text).map_err(|e| {
        let place = Place::new(&source, e.span().unwrap_or(0..0));
        bad(&place, e.message(), "the file must be TOML, such as: game = [\"minecraft\"]")
    })?;
    let mut found = Vec::new();
    Reader { source: &source, found: &mut found }.table("", table.get_ref())?;
    Ok(found)
}

struct Reader<'a> {
    source: &'a Arc<Source>,
    found: &'a mut Vec<(&'static Key, Raw)>,
}

impl Reader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) -> Result<(), Failure> {
        // In the file's order, so that the first mistake is told first.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let full = format!("{prefix}{}", name.get_ref());
            let inner = format!("{full}.");
            if let Some(key) = find(&full) {
                let place = self.place(value.span());
                let values = values(key, value.get_ref()).ok_or_else(|| wrong_kind(&place, key))?;
                self.found.push((key, Raw { values, origin: Origin::File(place) }));
            } else if let Some(table) = value.get_ref().as_table()
                && KEYS.iter().any(|k| k.name.starts_with(&inner))
            {
                self.table(&inner, table)?;
            } else {
                return Err(self.unknown(prefix, name.get_ref(), name.span()));
            }
        }
        Ok(())
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place::new(self.source, span)
    }

    fn unknown(&self, prefix: &str, name: &str, span: Range<usize>) -> Failure {
        let here =
            KEYS.iter().filter_map(|k| k.name.strip_prefix(prefix)).map(|n| n.split('.').next().unwrap_or(n));
        let elsewhere = KEYS.iter().filter_map(|k| k.name.rsplit_once('.')).find(|(_, last)| *last == name);
        let hint = match (nearest(name, here), elsewhere) {
            (Some(meant), _) => format!("did you mean `{meant}`?"),
            (None, Some((table, _))) => format!("it belongs into the table [{table}]"),
            (None, None) => "docs/commands.md lists all settings".to_owned(),
        };
        bad(&self.place(span), &format!("unknown setting `{}`", name.escape_debug()), &hint)
    }
}

/// The value as texts; `None` when it has another shape.
fn values(key: &Key, value: &DeValue<'_>) -> Option<Vec<String>> {
    let text = |v: &DeValue<'_>| v.as_str().map(str::to_owned);
    match key.kind {
        Kind::Text => Some(vec![text(value)?]),
        Kind::List => match value.as_array() {
            Some(items) => items.iter().map(|item| text(item.get_ref())).collect(),
            None => Some(vec![text(value)?]),
        },
        Kind::Switch => Some(vec![value.as_bool()?.to_string()]),
        Kind::Seconds => {
            let whole = value.as_integer().filter(|n| n.radix() == 10).map(|n| n.as_str().to_owned());
            Some(vec![whole.or_else(|| value.as_float().map(|n| n.as_str().to_owned()))?])
        }
    }
}

fn wrong_kind(place: &Place, key: &Key) -> Failure {
    let shape = match key.kind {
        Kind::Text => "a text in quotes",
        Kind::List => "a text in quotes, or a list of them: [\"a\", \"b\"]",
        Kind::Switch => "true or false, without quotes",
        Kind::Seconds => "a number of seconds, without quotes",
    };
    bad(place, &format!("`{}` must be {shape}", key.name), "correct this line")
}

fn bad(place: &Place, message: &str, hint: &str) -> Failure {
    Failure::new("bad_config", format!("{place}: {message}"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> (String, String) {
        let failure = parse("c.toml", text.to_owned()).unwrap_err();
        assert_eq!(failure.exit, 1);
        (failure.trouble.message, failure.trouble.hint)
    }

    #[test]
    fn settings_come_with_their_place() {
        let text =
            "game = \"minecraft\"\ncontrol = [\"file:/a\", \"file:/b\"]\n\n[timing]\nheartbeat = 0.5\n";
        let found = parse("c.toml", text.into()).unwrap();
        let told: Vec<_> =
            found.iter().map(|(k, raw)| format!("{} {:?} {}", k.name, raw.values, raw.origin)).collect();
        assert_eq!(
            told,
            [
                "game [\"minecraft\"] c.toml:1:8",
                "control [\"file:/a\", \"file:/b\"] c.toml:2:11",
                "timing.heartbeat [\"0.5\"] c.toml:5:13"
            ]
        );
    }

    #[test]
    fn mistakes_are_told_with_line_column_and_the_nearest_key() {
        for (text, message, hint) in [
            ("nmae = \"x\"", "c.toml:1:1: unknown setting `nmae`", "did you mean `name`?"),
            (
                "\n[timing]\nheartbeet = 1",
                "c.toml:3:1: unknown setting `heartbeet`",
                "did you mean `heartbeat`?",
            ),
            (
                "heartbeat = 1",
                "c.toml:1:1: unknown setting `heartbeat`",
                "it belongs into the table [timing]",
            ),
            ("a = 1\n[b]", "c.toml:1:1: unknown setting `a`", "docs/commands.md lists all settings"),
            (
                "open = \"yes\"",
                "c.toml:1:8: `open` must be true or false, without quotes",
                "correct this line",
            ),
            ("game = [1]", "c.toml:1:8: `game` must be a text in quotes, or a list", "correct this line"),
            (
                "[timing]\nheartbeat = \"1\"",
                "c.toml:2:13: `timing.heartbeat` must be a number",
                "correct this line",
            ),
        ] {
            let (got, try_this) = errors(text);
            assert!(got.starts_with(message), "{got}");
            assert_eq!(try_this, hint);
        }
        assert!(errors("x = = 1").0.starts_with("c.toml:1:5: "), "{:?}", errors("x = = 1"));
    }
}
