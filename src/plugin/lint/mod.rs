//! What can be said of a plugin's sources without running them: whether they compile, and whether what they name is there.
//!
//! Luau's own compiler says what does not compile. `names` then finds globals, and these are held against the API's table
//! and against a real state's own libraries. A full parser (`full_moon`) would see more, and costs 49 s of building, a
//! licence of its own and three generations of `syn`; this is what a beginner's mistakes need.

mod names;
mod tokens;

use super::api::table::{GLOBALS, GONE};
use crate::model::script::{Capabilities, Hook};
use crate::rules::diagnostic::{Diagnostic, Place, Source};
use crate::rules::nearest::nearest;
use mlua::chunk::ChunkMode;
use mlua::{Lua, LuaOptions, StdLib, Table, Value};
use names::{Names, Use, names};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

/// What was found.
#[derive(Debug, Default)]
pub struct Lint {
    /// What cannot work.
    pub wrong: Vec<Diagnostic>,
    /// What is worth a thought.
    pub notes: Vec<Diagnostic>,
    /// Whether `lanrage.send` is called anywhere.
    pub sends: bool,
    /// Whether some file does not compile: then nothing can be run.
    pub broken: bool,
}

/// Looks at a plugin's sources.
///
/// `shown` gives a file's name as people are told it; `main` is the first file.
#[must_use]
pub fn look(
    files: &BTreeMap<String, String>,
    main: &str,
    may: Option<&Capabilities>,
    shown: &dyn Fn(&str) -> String,
) -> Lint {
    let mut lint = Lint::default();
    let Ok(lua) = Lua::new_with(libraries(), LuaOptions::new()) else { return lint };
    let known = Known::read(&lua);
    let mut looked = Vec::new();
    for (file, text) in files {
        let source = Arc::new(Source { name: shown(file), text: text.clone() });
        match does_not_compile(&lua, file, &source) {
            Some(wrong) => {
                lint.wrong.push(wrong);
                lint.broken = true;
            }
            None => looked.push((file, source)),
        }
    }
    let all: Vec<(&String, &Arc<Source>, Names<'_>)> =
        looked.iter().map(|(file, source)| (*file, source, names(&source.text))).collect();
    // Each file has the globals of all of them: that is how Luau shares them.
    let made: BTreeSet<&str> =
        all.iter().flat_map(|(_, _, names)| names.made.iter().map(|(name, _)| *name)).collect();
    for (file, source, names) in &all {
        for (name, span) in &names.made {
            let message = format!("`{name}` becomes a global, which every file of the plugin sees");
            lint.notes.push(told(source, span, message, Some(format!("write `local {name}`"))));
        }
        for one in &names.uses {
            known.judge(one, &made, may, source, &mut lint);
        }
        if file.as_str() == main {
            hooks(names, source, &mut lint);
        }
    }
    lint
}

/// A place in a source by its line, as Luau tells it; the column is that of `near` in this line, else of its first word.
#[must_use]
pub fn place_in_line(source: &Arc<Source>, line: usize, near: Option<&str>) -> Place {
    let mut at = 0;
    for (i, text) in source.text.split_inclusive('\n').enumerate() {
        if i + 1 == line {
            let trimmed = text.trim_end();
            let first = trimmed.len() - trimmed.trim_start().len();
            let found = near.and_then(|near| Some((trimmed.find(near)?, near.len())));
            let (from, len) = found.unwrap_or((first, trimmed.len() - first));
            return Place::new(source, at + from..at + from + len);
        }
        at += text.len();
    }
    Place::new(source, at..at)
}

fn told(source: &Arc<Source>, span: &Range<usize>, message: String, help: Option<String>) -> Diagnostic {
    Diagnostic { place: Place::new(source, span.clone()), message, help, also: None }
}

fn libraries() -> StdLib {
    StdLib::COROUTINE
        | StdLib::TABLE
        | StdLib::STRING
        | StdLib::UTF8
        | StdLib::BIT
        | StdLib::MATH
        | StdLib::BUFFER
}

fn does_not_compile(lua: &Lua, file: &str, source: &Arc<Source>) -> Option<Diagnostic> {
    let chunk = lua.load(source.text.as_str()).set_name(format!("={file}")).set_mode(ChunkMode::Text);
    let error = chunk.into_function().err()?;
    let text = if let mlua::Error::SyntaxError { message, .. } = &error {
        message.clone()
    } else {
        error.to_string()
    };
    let text = text.lines().next().unwrap_or_default();
    let placed = text.strip_prefix(file).and_then(|rest| rest.strip_prefix(':'));
    let (line, message) = placed.and_then(|rest| rest.split_once(": ")).unwrap_or(("1", text));
    // "… got 'end'": the word is the best that is known of the column.
    let near = message.rsplit_once("got '").and_then(|(_, rest)| rest.split('\'').next());
    let place = place_in_line(source, line.trim().parse().unwrap_or(1), near);
    Some(Diagnostic { place, message: message.to_owned(), help: None, also: None })
}

/// The table that the main file returns may have these hooks and, for itself, what it likes; what looks like a hook and
/// is none is a slip.
fn hooks(names: &Names<'_>, source: &Arc<Source>, lint: &mut Lint) {
    let Some(returned) = names.returned else { return };
    let all = Hook::ALL.map(Hook::name);
    for put in names.puts.iter().filter(|put| put.table == returned && !all.contains(&put.field)) {
        let near = nearest(put.field, all);
        let help = near.map_or_else(
            || format!("hooks are {}", all.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        let message = format!("there is no hook `{}`", put.field);
        let diagnostic = told(source, &put.span, message, Some(help));
        if put.field.starts_with("on_") {
            lint.wrong.push(diagnostic);
        } else if near.is_some() {
            lint.notes.push(diagnostic);
        }
    }
}

/// What there is to name.
struct Known {
    /// Globals, and the fields of those that are tables.
    globals: BTreeMap<String, Option<BTreeSet<String>>>,
}

impl Known {
    fn read(lua: &Lua) -> Self {
        let mut globals = BTreeMap::new();
        for pair in lua.globals().pairs::<String, Value>() {
            let Ok((name, value)) = pair else { continue };
            let names =
                |table: Table| table.pairs::<String, Value>().filter_map(|pair| Some(pair.ok()?.0)).collect();
            let fields = value.as_table().cloned().map(names);
            globals.insert(name, fields);
        }
        GONE.iter().for_each(|gone| drop(globals.remove(*gone)));
        for entry in GLOBALS {
            match entry.name.split_once('.') {
                Some((table, field)) => {
                    let fields = globals.entry(table.to_owned()).or_insert_with(|| Some(BTreeSet::new()));
                    fields.get_or_insert_with(BTreeSet::new).insert(field.to_owned());
                }
                None => drop(globals.insert(entry.name.to_owned(), None)),
            }
        }
        Self { globals }
    }

    fn judge(
        &self,
        one: &Use<'_>,
        made: &BTreeSet<&str>,
        may: Option<&Capabilities>,
        source: &Arc<Source>,
        lint: &mut Lint,
    ) {
        if made.contains(one.name) {
            return;
        }
        let Some(fields) = self.globals.get(one.name) else {
            let near = nearest(one.name, self.globals.keys().map(String::as_str));
            let (message, help) = if GONE.contains(&one.name) {
                (format!("plugins have no `{}`", one.name), Some(instead_of(one.name).to_owned()))
            } else {
                (format!("there is no `{}`", one.name), near.map(|near| format!("did you mean `{near}`?")))
            };
            lint.wrong.push(told(source, &one.name_span, message, help));
            return;
        };
        let (Some(fields), Some(field)) = (fields, one.field) else { return };
        let whole = format!("{}.{field}", one.name);
        if !fields.contains(field) {
            let near = nearest(field, fields.iter().map(String::as_str));
            let help = near.map(|near| format!("did you mean `{}.{near}`?", one.name));
            lint.wrong.push(told(source, &one.span, format!("there is no `{whole}`"), help));
            return;
        }
        if whole == "lanrage.send" {
            lint.sends = true;
            if may.is_some_and(|may| !may.send) {
                let help = "add `send = true` to [may] in plugin.toml".to_owned();
                lint.wrong.push(told(source, &one.span, "the plugin may not send".into(), Some(help)));
            }
        }
        if let Some(problem) = one.call.and_then(|call| arguments(&whole, call)) {
            lint.wrong.push(told(source, &one.span, problem.0, Some(problem.1)));
        }
    }
}

/// Whether a call of a function of the API has the wrong number of arguments: what is wrong, and how it is called.
fn arguments(name: &str, (count, open): (usize, bool)) -> Option<(String, String)> {
    let args = GLOBALS.iter().find(|entry| entry.name == name)?.args?;
    let list: Vec<&str> = args.split(", ").filter(|arg| !arg.is_empty()).collect();
    if list.iter().any(|arg| arg.starts_with("...")) {
        return None;
    }
    let needed = list.iter().filter(|arg| !arg.ends_with('?')).count();
    let too_few = count < needed && !(open && count > 0);
    let too_many = if open { count.saturating_sub(1) > list.len() } else { count > list.len() };
    if !too_few && !too_many {
        return None;
    }
    let wanted =
        if needed == list.len() { needed.to_string() } else { format!("{needed} to {}", list.len()) };
    let unit = if wanted == "1" { "argument" } else { "arguments" };
    Some((format!("`{name}` takes {wanted} {unit}, not {count}"), format!("it is {name}({args})")))
}

/// What to use instead of something that plugins do not have.
fn instead_of(gone: &str) -> &'static str {
    match gone {
        "os" => "the only clock is lanrage.now()",
        "io" => "a plugin reads and writes no files; lanrage.log() writes a line for people",
        "loadstring" => "put the code into a file of the plugin and `require` it",
        _ => "docs/plugins/api.md lists what there is",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told_of(text: &str, may: &Capabilities) -> Vec<String> {
        let files = BTreeMap::from([("main.luau".to_owned(), text.to_owned())]);
        let lint = look(&files, "main.luau", Some(may), &str::to_owned);
        lint.wrong.iter().chain(&lint.notes).map(ToString::to_string).collect()
    }

    #[test]
    fn beginners_mistakes_are_told_with_their_place() {
        for (text, told) in [
            (
                "local plugin = {}\nfunction plugin.on_anouncement(b, n)\nend\nreturn plugin",
                "main.luau:2:17: there is no hook `on_anouncement`; did you mean `on_announcement`?",
            ),
            (
                "lanrage.lgo(1)\nreturn {}",
                "main.luau:1:9: there is no `lanrage.lgo`; did you mean `lanrage.log`?",
            ),
            (
                "local x = lanrge.now()\nreturn { x }",
                "main.luau:1:11: there is no `lanrge`; did you mean `lanrage`?",
            ),
            (
                "local b = buffer.create(1)\nreturn { packet.u8(b) }",
                "main.luau:2:17: `packet.u8` takes 2 arguments, not 1; it is packet.u8(b: buffer, at: number)",
            ),
            ("return { os.time() }", "main.luau:1:10: plugins have no `os`; the only clock is lanrage.now()"),
            (
                "lanrage.send({})\nreturn {}",
                "main.luau:1:9: the plugin may not send; add `send = true` to [may] in plugin.toml",
            ),
            (
                "count = 1\nreturn {}",
                "main.luau:1:1: `count` becomes a global, which every file of the plugin sees; write `local count`",
            ),
            (
                "return { string.reverze(\"a\") }",
                "main.luau:1:17: there is no `string.reverze`; did you mean `string.reverse`?",
            ),
        ] {
            assert_eq!(told_of(text, &Capabilities::default()), [told]);
        }
    }

    #[test]
    fn what_does_not_compile_is_told_by_luau_with_a_column() {
        let told = told_of("local x = 1\n  x = )\n", &Capabilities::default());
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("main.luau:2:7: "), "{told:?}");
    }

    #[test]
    fn what_is_right_is_passed_over() {
        let text = "local plugin = {}\nlocal t = require(\"./text\")\nfunction plugin.on_tick()\n\
                    lanrage.send({ to_port = 1 }) lanrage.log(t, unpack({}), lanrage.random(1, 6), packet.u8(t()))\n\
                    end\nfunction plugin.helper() end\nreturn plugin";
        let may = Capabilities { send: true, ..Capabilities::default() };
        assert_eq!(told_of(text, &may), Vec::<String>::new());
    }
}
