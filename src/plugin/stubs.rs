//! The API for people and editors, all from one table: definitions for luau-lsp, LuaCATS for LuaLS and EmmyLua, a
//! standard library for selene, and the page of the manual. `lanrage plugin new` writes the first three into a plugin's
//! folder; all four are kept in `docs/plugins/`, and a test holds the files against what is made here.

use super::api::table::{CLASSES, Entry, GLOBALS, GONE, HOOKS, LUAU};
use crate::model::script::API;
use std::fmt::Write;

/// The files for editors: name and content.
#[must_use]
pub fn stubs() -> Vec<(&'static str, String)> {
    vec![("lanrage.d.luau", definitions()), ("lanrage.lua", annotations()), ("lanrage.yml", selene())]
}

/// Writing into a string cannot fail.
macro_rules! put {
    ($out:expr, $($rest:tt)*) => {{
        let _ = writeln!($out, $($rest)*);
    }};
}

/// Parameters as name and type.
fn args(list: &'static str) -> Vec<(&'static str, &'static str)> {
    list.split(", ").filter_map(|arg| arg.split_once(": ")).collect()
}

/// A function's type as Luau writes it.
fn luau_type(list: &str, gives: &str) -> String {
    let args = list.replace("...: ", "...");
    let gives =
        if gives.is_empty() || gives.contains(", ") { format!("({gives})") } else { gives.to_owned() };
    format!("({args}) -> {gives}")
}

/// The entries of one table, such as `packet`.
fn of(table: &'static str) -> impl Iterator<Item = (&'static str, &'static Entry)> {
    GLOBALS.iter().filter_map(move |e| Some((e.name.strip_prefix(table)?.strip_prefix('.')?, e)))
}

fn definitions() -> String {
    let mut out = String::new();
    put!(out, "-- Definitions of lanrage's plugin API {API} for luau-lsp (luau-lsp.types.definitionFiles).");
    put!(out, "-- Made from the program's own table: do not edit.\n");
    put!(
        out,
        "-- What a packet hook answers: nothing or true forwards, false drops, a number is the length of the"
    );
    put!(out, "-- changed packet.");
    put!(out, "export type LanrageVerdict = boolean | number | nil\n");
    for class in CLASSES {
        put!(out, "-- {}", class.text);
        put!(out, "export type {} = {{", class.name);
        for (name, kind, text) in class.fields {
            let read = if class.name == "LanrageInfo" { "read " } else { "" };
            put!(out, "\t{read}{name}: {}, -- {text}", bracketed(kind));
        }
        put!(out, "}}\n");
    }
    put!(out, "-- The table that main.luau returns; every hook may be left out.");
    put!(out, "export type LanragePlugin = {{");
    for hook in HOOKS {
        let name = hook.name.trim_start_matches("plugin.");
        put!(out, "\t{name}: ({})?,", luau_type(hook.args.unwrap_or_default(), hook.gives));
    }
    put!(out, "}}\n");
    for table in ["lanrage", "packet"] {
        put!(out, "declare {table}: {{");
        for (name, entry) in of(table) {
            put!(out, "\t-- {}", entry.text);
            let kind = entry.args.map_or_else(|| entry.gives.to_owned(), |args| luau_type(args, entry.gives));
            put!(out, "\t{name}: {kind},");
        }
        put!(out, "}}\n");
    }
    out.trim_end().to_owned() + "\n"
}

/// A union as the type of a field.
fn bracketed(kind: &str) -> String {
    if kind.contains(" | ") { format!("({kind})") } else { kind.to_owned() }
}

/// A type as LuaCATS writes it.
fn cats(kind: &str) -> String {
    let (kind, optional) = kind.strip_suffix('?').map_or((kind, ""), |kind| (kind, "?"));
    let inner = |kind: &str| match kind.strip_prefix("Lanrage") {
        Some(name) => format!("lanrage.{name}"),
        None => kind.to_owned(),
    };
    let list = kind.strip_prefix('{').and_then(|kind| kind.strip_suffix('}'));
    let kind = list.map_or_else(|| inner(kind), |kind| format!("{}[]", inner(kind)));
    format!("{kind}{optional}")
}

fn cats_function(out: &mut String, name: &str, list: &'static str, gives: &str) {
    let args = args(list);
    for (arg, kind) in &args {
        match kind.strip_suffix('?') {
            Some(kind) => put!(out, "---@param {arg}? {}", cats(kind)),
            None => put!(out, "---@param {arg} {}", cats(kind)),
        }
    }
    for kind in gives.split(", ").filter(|kind| !kind.is_empty()) {
        let kind = kind.strip_prefix("...").map_or_else(|| cats(kind), |kind| format!("{kind} ..."));
        put!(out, "---@return {kind}");
    }
    let names: Vec<&str> = args.iter().map(|(arg, _)| *arg).collect();
    put!(out, "function {name}({}) end\n", names.join(", "));
}

fn annotations() -> String {
    let mut out = String::new();
    put!(out, "---@meta");
    put!(
        out,
        "-- lanrage's plugin API {API} for LuaLS and EmmyLua (LuaCATS). Made from the program's own table: do not edit.\n"
    );
    put!(out, "---@class buffer\nbuffer = {{}}\n\nbit32 = {{}}\n");
    put!(out, "---Nothing or true forwards, false drops, a number is the length of the changed packet.");
    put!(out, "---@alias lanrage.Verdict boolean|number|nil\n");
    for class in CLASSES {
        put!(out, "---{}", class.text);
        put!(out, "---@class {}", cats(class.name));
        for (name, kind, text) in class.fields {
            let kind = kind.replace(" | ", "|");
            match kind.strip_suffix('?') {
                Some(kind) => put!(out, "---@field {name}? {} {text}", cats(kind)),
                None => put!(out, "---@field {name} {} {text}", cats(&kind)),
            }
        }
        out.push('\n');
    }
    put!(out, "---The table that main.luau returns; every hook may be left out.");
    put!(out, "---@class lanrage.Plugin");
    for hook in HOOKS {
        let list = args(hook.args.unwrap_or_default());
        let list: Vec<String> = list.iter().map(|(name, kind)| format!("{name}: {}", cats(kind))).collect();
        let gives: Vec<String> = hook.gives.split(", ").filter(|g| !g.is_empty()).map(cats).collect();
        let gives = if gives.is_empty() { String::new() } else { format!(": {}", gives.join(", ")) };
        put!(out, "---@field {}? fun({}){gives}", hook.name.trim_start_matches("plugin."), list.join(", "));
    }
    put!(out, "\nlanrage = {{}}\npacket = {{}}\n");
    for entry in GLOBALS {
        put!(out, "---{}", entry.text);
        match entry.args {
            Some(list) => cats_function(&mut out, entry.name, list, entry.gives),
            None => put!(out, "---@type {}\n{} = {API}\n", entry.gives, entry.name),
        }
    }
    put!(out, "-- What Luau has beyond Lua 5.1.\n");
    for (name, list, gives) in LUAU {
        cats_function(&mut out, name, list, gives);
    }
    out.trim_end().to_owned() + "\n"
}

fn selene() -> String {
    let mut out = String::new();
    put!(
        out,
        "# lanrage's plugin API {API} as a standard library for selene. Made from the program's own table: do not edit."
    );
    put!(out, "# Beside a selene.toml with `std = \"lanrage\"`.");
    put!(out, "---\nbase: luau\nname: lanrage\nglobals:");
    // The base names each function of a library; taking the library away does not take them.
    for name in
        GONE.iter().chain(&["os.clock", "os.date", "os.difftime", "os.time", "debug.info", "debug.traceback"])
    {
        put!(out, "  {name}:\n    removed: true");
    }
    for entry in GLOBALS {
        put!(out, "  {}:", entry.name);
        let Some(list) = entry.args else {
            put!(out, "    property: read-only");
            continue;
        };
        let args = args(list);
        if args.is_empty() {
            put!(out, "    args: []");
        } else {
            put!(out, "    args:");
        }
        for (name, kind) in args {
            let (kind, required) = kind.strip_suffix('?').map_or((kind, true), |kind| (kind, false));
            match (name, kind) {
                ("...", _) => put!(out, "      - required: false\n        type: \"...\""),
                (_, "number" | "string" | "any") => put!(out, "      - type: {kind}"),
                (_, "buffer") => put!(out, "      - type:\n          display: buffer"),
                _ => put!(out, "      - type: table"),
            }
            if !required {
                put!(out, "        required: false");
            }
        }
    }
    out
}

/// `docs/plugins/api.md`.
#[must_use]
pub fn manual() -> String {
    let mut out = String::new();
    put!(out, "# The plugin API, version {API}\n");
    out.push_str(INTRODUCTION);
    put!(out, "## Hooks\n");
    put!(
        out,
        "A plugin has those that it needs and leaves the others out. A name that begins with `on_` and is none of these"
    );
    put!(out, "is refused when the plugin is loaded, with the nearest one that exists.\n");
    entries(&mut out, HOOKS.iter());
    out.push_str(VERDICTS);
    put!(out, "## Tables\n");
    put!(
        out,
        "In Luau's type annotations they are called as here; in LuaCATS (`lanrage.lua`) with a dot, `lanrage.Info`.\n"
    );
    for class in CLASSES {
        put!(out, "### `{}`\n\n{}\n\n| field | type | what |\n|---|---|---|", class.name, class.text);
        for (name, kind, text) in class.fields {
            put!(out, "| `{name}` | `{}` | {text} |", kind.replace('|', "\\|"));
        }
        out.push('\n');
    }
    for (title, table) in [("lanrage", "lanrage"), ("packet", "packet")] {
        put!(out, "## `{title}`\n");
        if table == "packet" {
            out.push_str(PACKETS);
        }
        entries(&mut out, of(table).map(|(_, entry)| entry));
    }
    put!(out, "## `require` and `print`\n");
    entries(&mut out, GLOBALS.iter().filter(|entry| !entry.name.contains('.')));
    out.push_str(LIBRARIES);
    let gone: Vec<String> = GONE.iter().map(|name| format!("`{name}`")).collect();
    put!(
        out,
        "Not there: {}, and every way to files, sockets, processes, other plugins and the clock.",
        gone.join(", ")
    );
    out
}

fn entries<'a>(out: &mut String, list: impl Iterator<Item = &'a Entry>) {
    for entry in list {
        let head = match entry.args {
            Some(list) if entry.gives.is_empty() => format!("{}({list})", entry.name),
            Some(list) => format!("{}({list}): {}", entry.name, entry.gives),
            None => format!("{}: {}", entry.name, entry.gives),
        };
        let since = if entry.since == 1 { String::new() } else { format!(" *Since API {}.*", entry.since) };
        put!(out, "**`{head}`**  \n{}{since}\n", entry.text);
    }
}

const INTRODUCTION: &str = "\
This page is made from the table in `src/plugin/api/table.rs`, as are the stubs for editors in
[`stubs/`](stubs/): what is not here does not exist. What a plugin may cost and do is told in [sandbox.md](sandbox.md).

`plugin.toml` names the version (`api = 1`). This lanrage serves the newest version and the one before; a plugin for another
one is refused with a message that says what changed.

```lua
--!strict
local plugin = {}

function plugin.on_answer(b: buffer, n: number, info: LanrageInfo)
\tif not packet.equals(b, n, 0, \"ff ff ff ff 49\") then
\t\treturn false
\tend
\tpacket.set_u16be(b, 5, info.from_port)
\treturn n
end

return plugin
```

Call the buffer `b`, or anything but `packet`: that name is the helpers'. Plain Lua 5.1 in `main.lua` works as well.

";

const VERDICTS: &str = "\
### What a packet hook answers

| first value | the packet |
|---|---|
| nothing, `nil`, `true` | goes on as it is |
| `false` | goes nowhere |
| a number `n` | goes on as the first `n` bytes of the buffer (needs `rewrite = true` in plugin.toml); checksums are lanrage's business |

The second value is a table, see `LanrageExtras`. Anything else is an error: it names file and line, the rule's default applies
to the packet, and three errors within ten seconds put the plugin to sleep.

";

const PACKETS: &str = "\
Offsets count from 0, as those of Luau's `buffer` do. The hook's buffer has 2,048 bytes whatever the packet's length, so that
it can grow; bytes from `n` on are zero. It is reused: what should outlast the call is to be copied. (A packet longer than that,
which no tunnel carries, would get a buffer of its own length.) Reading or writing beyond the end is an error at the plugin's line.

";

const LIBRARIES: &str = "\
## Luau's own libraries

`buffer`, `string`, `table`, `math`, `bit32`, `utf8` and `coroutine` are there, as [Luau documents them](https://luau.org/library),
with these differences, so that one call cannot take long and nothing differs from run to run:

* `string.find`, `match`, `gmatch`, `gsub` and `split` take patterns of at most 256 bytes and texts of at most 262,144;
  `table.move` moves at most 65,536 entries; `table.sort` sorts at most 65,536; `string.format` takes 32 values and a format of 4,096 bytes;
* `math.random` starts from the node's seed;
* `tostring` and `string.format` write `table`, `function` and the like without an address;
* `pairs` goes through a table in an order that depends on its keys and on how it was filled: the same code with the same packets
  meets the same order when the keys are numbers, strings or booleans. Keys that are tables or functions have no order to rely on;
* libraries and the metatable of strings are read-only. Own globals are possible, and stay within the plugin.

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_written_as_each_reader_wants_them() {
        assert_eq!(
            luau_type("b: buffer, at: number", "number?, number?"),
            "(b: buffer, at: number) -> (number?, number?)"
        );
        assert_eq!(luau_type("...: any", ""), "(...any) -> ()");
        assert_eq!(cats("{LanrageOpen}?"), "lanrage.Open[]?");
        assert_eq!(args("a: number, ...: any"), [("a", "number"), ("...", "any")]);
    }

    #[test]
    fn nothing_is_newer_than_the_api() {
        assert!(GLOBALS.iter().chain(HOOKS).all(|entry| (1..=API).contains(&entry.since)));
    }
}
