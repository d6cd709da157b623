//! What hooks return, held against what a hook may return and the plugin may do. Nothing here is believed: a wrong type,
//! a number out of range or a port of somebody else is a sentence for the author, never a guess.
#![allow(clippy::wildcard_enum_match_arm, reason = "a value of another kind is told, whatever it is")]

use super::Desk;
use super::host::{port, told};
use super::safe;
use crate::model::script::{Capabilities, ScriptAnswer, ScriptGame, ScriptOpen, Teach, Verdict};
use mlua::{FromLua, Lua, Table, Value};
use std::time::Duration;

/// Ports that one answer may open.
const OPENS: usize = 8;
/// The longest that one answer may open them; longer games open again.
const OPEN_SECONDS: f64 = 300.0;
/// The longest that a verdict may be taught.
const TEACH_SECONDS: f64 = 300.0;
/// Characters of a title, a map, a version.
const TITLE_CHARS: usize = 80;
/// Characters that `check` may say.
const CHECK_CHARS: usize = 1_000;

/// The first value that a packet hook returns. The usual ones are told apart where they come out of the runtime, and the
/// rest lies behind a pointer, because a `Value` is costly to hand on.
pub(in crate::plugin) enum Said {
    Nothing,
    Truth(bool),
    Whole(i64),
    Other(Box<Value>),
}

impl FromLua for Said {
    #[inline]
    fn from_lua(value: Value, _: &Lua) -> mlua::Result<Self> {
        Ok(match value {
            Value::Nil => Self::Nothing,
            Value::Boolean(truth) => Self::Truth(truth),
            Value::Integer(n) => Self::Whole(n),
            other => Self::Other(Box::new(other)),
        })
    }
}

impl Said {
    pub(in crate::plugin) fn into_value(self) -> Value {
        match self {
            Self::Nothing => Value::Nil,
            Self::Truth(truth) => Value::Boolean(truth),
            Self::Whole(n) => Value::Integer(n),
            Self::Other(value) => *value,
        }
    }
}

/// The second one, mostly nothing.
pub(in crate::plugin) struct Extras(pub(in crate::plugin) Option<Box<Value>>);

impl FromLua for Extras {
    #[inline]
    fn from_lua(value: Value, _: &Lua) -> mlua::Result<Self> {
        Ok(Self((!value.is_nil()).then(|| Box::new(value))))
    }
}

/// The length of a changed packet: what a packet hook returns when it is neither nothing, true nor false. `room` is
/// the length of the packet's buffer.
pub(in crate::plugin) fn length(may: &Capabilities, value: &Value, room: usize) -> Result<usize, String> {
    if !matches!(value, Value::Integer(_) | Value::Number(_)) {
        return Err(format!(
            "returned {}; return nothing or true (forward), false (drop), or the new length of the packet",
            told(value)
        ));
    }
    let n = value.as_integer().and_then(|n| usize::try_from(n).ok()).filter(|n| *n <= room);
    let n = n.ok_or_else(|| {
        format!(
            "returned {} as the packet's new length; a whole number from 0 to {room} was expected",
            told(value)
        )
    })?;
    if !may.rewrite {
        return Err("returned a changed packet, and the plugin may not change any; its plugin.toml needs \
                    `rewrite = true` in [may]"
            .into());
    }
    Ok(n)
}

impl Desk {
    /// The second value: to whom, for how long, which ports.
    pub(in crate::plugin) fn extras(&self, value: &Value, answer: &mut ScriptAnswer) -> Result<(), String> {
        let table = match value {
            Value::Nil => return Ok(()),
            Value::Table(table) => table,
            _ => {
                return Err(format!(
                    "returned {} as its second value; it is a table with `to`, `teach`, `same` or `open`",
                    told(value)
                ));
            }
        };
        known(table, &["to", "teach", "same", "open"], "the second value")?;
        match get(table, "to")? {
            Value::Nil => {}
            list => answer.to = Some(self.peer_list(&list)?),
        }
        let same = truth(table, "same")?;
        match (get(table, "teach")?, same) {
            (Value::Nil, None) => {}
            (Value::Nil, Some(_)) => return Err("returned `same` without `teach`".into()),
            (life, same) => {
                let life = seconds(&life, "teach", TEACH_SECONDS)?;
                let same_bytes = same.unwrap_or(true);
                if !same_bytes && matches!(answer.verdict, Verdict::Replace(_)) {
                    return Err("taught a changed packet for packets with other bytes; `same = false` goes with forward \
                                and drop only"
                        .into());
                }
                answer.teach = Some(Teach { life, same_bytes });
            }
        }
        match get(table, "open")? {
            Value::Nil => Ok(()),
            Value::Table(list) => self.opens(&list, answer),
            other => Err(format!("returned {} as `open`; it is a list of tables", told(&other))),
        }
    }

    fn opens(&self, list: &Table, answer: &mut ScriptAnswer) -> Result<(), String> {
        let count = list.raw_len();
        if count > OPENS {
            return Err(format!("asked to open {count} ports; one answer may open {OPENS}"));
        }
        if count == 0 && !list.is_empty() {
            return Err(
                "returned `open` as one table; it is a list of tables, such as {{ tcp = true, port = 6112 }}"
                    .into(),
            );
        }
        for i in 1..=count {
            let entry: Value = list.raw_get(i).map_err(|_| UNREADABLE.to_owned())?;
            let Value::Table(entry) = entry else {
                return Err(format!("returned {} inside `open`; each entry is a table", told(&entry)));
            };
            known(&entry, &["tcp", "port", "seconds", "peer"], "an entry of `open`")?;
            let tcp = truth(&entry, "tcp")?.unwrap_or(false);
            let port = self.own_port(&get(&entry, "port")?, tcp)?;
            let life = match get(&entry, "seconds")? {
                Value::Nil => Duration::from_secs(60),
                life => seconds(&life, "seconds", OPEN_SECONDS)?,
            };
            let peer = match get(&entry, "peer")? {
                Value::Nil => None,
                peer => Some(self.peer(&peer, "peer")?),
            };
            answer.open.push(ScriptOpen { peer, tcp, port, life });
        }
        Ok(())
    }

    fn own_port(&self, value: &Value, tcp: bool) -> Result<u16, String> {
        let port =
            port(value).ok_or_else(|| format!("`port` is {}; it is a number, 1 to 65535", told(value)))?;
        let (name, own) = if tcp { ("tcp", self.may.has_tcp(port)) } else { ("udp", self.may.has_udp(port)) };
        if !own {
            return Err(format!(
                "asked for {} port {port}, which is not among the plugin's own; add it to `{name}` in [may] of its plugin.toml",
                name.to_uppercase()
            ));
        }
        Ok(port)
    }

    /// What `describe` returned.
    pub(in crate::plugin) fn game(&self, value: &Value) -> Result<Option<ScriptGame>, String> {
        let table = match value {
            Value::Nil | Value::Boolean(false) => return Ok(None),
            Value::Table(table) => table,
            _ => {
                return Err(format!(
                    "returned {}; return nothing, or a table such as {{ title = \"My game\" }}",
                    told(value)
                ));
            }
        };
        let keys = ["title", "map", "version", "players", "most_players", "port", "tcp", "over"];
        known(table, &keys, "the game")?;
        let tcp = truth(table, "tcp")?;
        let port = match get(table, "port")? {
            Value::Nil => None,
            port => Some(self.own_port(&port, tcp.unwrap_or_else(|| self.tcp_by_port(&port)))?),
        };
        Ok(Some(ScriptGame {
            title: text(table, "title")?,
            map: text(table, "map")?,
            version: text(table, "version")?,
            players: count(table, "players")?,
            most_players: count(table, "most_players")?,
            tcp,
            port,
            over: truth(table, "over")?.unwrap_or(false),
        }))
    }

    /// Without a word about the transport, a port is looked up in both lists.
    fn tcp_by_port(&self, value: &Value) -> bool {
        port(value).is_some_and(|port| self.may.has_tcp(port) && !self.may.has_udp(port))
    }
}

/// What `check` returned.
pub(in crate::plugin) fn check(value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Nil => Ok(None),
        Value::String(text) => {
            let text = safe(&text.to_string_lossy(), CHECK_CHARS);
            Ok((!text.trim().is_empty()).then_some(text))
        }
        _ => Err(format!("returned {}; return nothing when all is well, or a sentence", told(value))),
    }
}

const UNREADABLE: &str = "returned a table that cannot be read";

fn get(table: &Table, key: &str) -> Result<Value, String> {
    table.raw_get(key).map_err(|_| UNREADABLE.to_owned())
}

/// Refuses keys that mean nothing, so that a misspelt one is not silently nothing.
fn known(table: &Table, keys: &[&str], what: &str) -> Result<(), String> {
    for pair in table.pairs::<Value, Value>().take(keys.len() + 1) {
        let (key, _) = pair.map_err(|_| UNREADABLE.to_owned())?;
        let name = match &key {
            Value::String(name) => name.to_string_lossy(),
            other => told(other),
        };
        if !keys.contains(&name.as_str()) {
            let near = crate::rules::nearest::nearest(&name, keys.iter().copied());
            let help = near.map_or_else(
                || format!("it has {}", keys.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            return Err(format!("returned `{}` in {what}; {help}", safe(&name, 40)));
        }
    }
    Ok(())
}

fn truth(table: &Table, key: &str) -> Result<Option<bool>, String> {
    match get(table, key)? {
        Value::Nil => Ok(None),
        Value::Boolean(b) => Ok(Some(b)),
        other => Err(format!("returned {} as `{key}`; it is true or false", told(&other))),
    }
}

fn seconds(value: &Value, key: &str, most: f64) -> Result<Duration, String> {
    let number = value.as_number().or_else(|| value.as_integer().map(|n| n as f64));
    let within = number.filter(|n| *n > 0.0 && *n <= most);
    within.map(Duration::from_secs_f64).ok_or_else(|| {
        format!("returned {} as `{key}`; it is a number of seconds, above 0 and at most {most}", told(value))
    })
}

fn text(table: &Table, key: &str) -> Result<String, String> {
    match get(table, key)? {
        Value::Nil => Ok(String::new()),
        Value::String(text) => Ok(safe(text.to_string_lossy().trim(), TITLE_CHARS)),
        other => Err(format!("returned {} as `{key}`; it is text", told(&other))),
    }
}

fn count(table: &Table, key: &str) -> Result<Option<u32>, String> {
    match get(table, key)? {
        Value::Nil => Ok(None),
        value => {
            value.as_integer().and_then(|n| u32::try_from(n).ok()).map(Some).ok_or_else(|| {
                format!("returned {} as `{key}`; it is a whole number, 0 or more", told(&value))
            })
        }
    }
}
