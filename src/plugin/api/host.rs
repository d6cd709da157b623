//! The functions that the prelude is given, and the checks of what plugins send.
#![allow(clippy::wildcard_enum_match_arm, reason = "a value of another kind is told, whatever it is")]

use super::{Desk, Slate, safe};
use crate::model::id::PeerId;
use crate::model::limits::PEERS;
use crate::model::script::{API, ScriptPeer, ScriptSend};
use crate::rules::ports::LOWEST;
use mlua::chunk::Compiler;
use mlua::{Lua, LuaString, Table, Value};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Lines that one call may log.
const LOG_LINES: usize = 16;
/// Characters of a line.
const LOG_CHARS: usize = 300;
/// Packets that one call may send.
const SENDS: usize = 16;
/// Bytes of one such packet: what fits the tunnel's MTU with its headers.
const SEND_BYTES: usize = 1_372;
/// Bytes of all of them.
const SENT_BYTES: usize = 8 << 10;

/// Runs the prelude in a fresh state; hands back the table of modules that `require` looks into, and the metatable of
/// `info`.
pub(in crate::plugin) fn install(lua: &Lua, slate: &Arc<Slate>) -> mlua::Result<(Table, Table)> {
    let host = lua.create_table()?;
    host.raw_set("api", API)?;
    host.raw_set("send_bytes", SEND_BYTES)?;
    let own = Arc::clone(slate);
    host.raw_set("now", lua.create_function(move |_, ()| Ok(own.seconds()))?)?;
    let own = Arc::clone(slate);
    host.raw_set("me", lua.create_function(move |_, ()| Ok(own.me().map(|me| me.to_string())))?)?;
    host.raw_set("peers", lua.create_function(|lua, ()| peers(lua))?)?;
    let own = Arc::clone(slate);
    host.raw_set("log", lua.create_function(move |lua, line: LuaString| Ok(log(lua, &own, &line)))?)?;
    let own = Arc::clone(slate);
    host.raw_set("send", lua.create_function(move |lua, what: Wish| Ok(send(lua, &own, &what)))?)?;
    let ipv4 = |_: &Lua, text: LuaString| Ok(parsed::<Ipv4Addr>(&text).map(|a| Bytes(a.octets().to_vec())));
    host.raw_set("ipv4", lua.create_function(ipv4)?)?;
    let ipv6 = |_: &Lua, text: LuaString| Ok(parsed::<Ipv6Addr>(&text).map(|a| Bytes(a.octets().to_vec())));
    host.raw_set("ipv6", lua.create_function(ipv6)?)?;
    let ipv6_text = |_: &Lua, bytes: LuaString| {
        let bytes: Option<[u8; 16]> = (*bytes.as_bytes()).try_into().ok();
        Ok(bytes.map(|bytes| Ipv6Addr::from(bytes).to_string()))
    };
    host.raw_set("ipv6_text", lua.create_function(ipv6_text)?)?;
    host.raw_set("hex", lua.create_function(|_, text: LuaString| Ok(hex(&text.as_bytes()).map(Bytes)))?)?;
    let modules = lua.create_table()?;
    host.raw_set("modules", &modules)?;
    let info = lua.create_table()?;
    host.raw_set("info", &info)?;
    let compiler = Compiler::new().set_optimization_level(2).set_debug_level(1);
    let prelude = lua.load(include_str!("../prelude.luau")).set_name("=lanrage").set_compiler(compiler);
    prelude.call::<()>(host)?;
    Ok((modules, info))
}

/// Bytes that become a Lua string, not a table of numbers.
struct Bytes(Vec<u8>);

impl mlua::IntoLua for Bytes {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.create_string(&self.0).map(Value::String)
    }
}

fn parsed<T: std::str::FromStr>(text: &LuaString) -> Option<T> {
    std::str::from_utf8(&text.as_bytes()).ok()?.parse().ok()
}

/// `ff ff 54` as bytes; spaces are for people.
fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .iter()
        .filter(|c| **c != b' ')
        .map(|c| char::from(*c).to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    let whole = pairs.remainder().is_empty() && !digits.is_empty();
    whole.then(|| pairs.map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

/// A member of the party as a table.
pub(in crate::plugin) fn peer_table(lua: &Lua, peer: &ScriptPeer) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, 3)?;
    table.raw_set("id", peer.id.to_string())?;
    table.raw_set("name", peer.name.as_str())?;
    table.raw_set("address", peer.address.to_string())?;
    Ok(table)
}

fn peers(lua: &Lua) -> mlua::Result<Table> {
    let all: Vec<ScriptPeer> = Desk::read(lua, |desk| desk.peers.values().take(PEERS).cloned().collect());
    let list = lua.create_table_with_capacity(all.len(), 0)?;
    for (i, peer) in all.iter().enumerate() {
        list.raw_set(i + 1, peer_table(lua, peer)?)?;
    }
    Ok(list)
}

fn log(lua: &Lua, slate: &Slate, line: &LuaString) -> Option<String> {
    let line = safe(&line.to_string_lossy(), LOG_CHARS);
    slate.touched.store(true, Relaxed);
    Desk::write(lua, |desk| {
        if desk.log.len() >= LOG_LINES {
            return Some(format!("more than {LOG_LINES} lines logged in one call; log less, or in on_tick"));
        }
        desk.log.push(line);
        None
    })
}

/// The arguments of `host.send`, unchecked.
type Wish = (Value, Value, Value, Value, Value, LuaString);

fn send(lua: &Lua, slate: &Slate, wish: &Wish) -> Option<String> {
    let (as_peer, to, group, from_port, to_port, payload) = wish;
    slate.touched.store(true, Relaxed);
    Desk::write(lua, |desk| {
        let made = desk.packet(as_peer, to, group, from_port, to_port, &payload.as_bytes());
        match made {
            Ok(packet) => {
                desk.sent += packet.payload.len();
                desk.sends.push(packet);
                None
            }
            Err(problem) => Some(format!("lanrage.send: {problem}")),
        }
    })
}

impl Desk {
    fn packet(
        &self,
        as_peer: &Value,
        to: &Value,
        group: &Value,
        from_port: &Value,
        to_port: &Value,
        payload: &[u8],
    ) -> Result<ScriptSend, String> {
        if !self.may.send {
            return Err("the plugin may not send; its plugin.toml needs `send = true` in [may]".into());
        }
        if payload.len() > SEND_BYTES {
            return Err(format!("{} bytes are too many; a packet has at most {SEND_BYTES}", payload.len()));
        }
        if self.sends.len() >= SENDS || self.sent + payload.len() > SENT_BYTES {
            return Err(format!("too much in one call; it may send {SENDS} packets and {SENT_BYTES} bytes"));
        }
        let from_port = sendable(from_port, "from_port")?;
        let to_port = sendable(to_port, "to_port")?;
        let own = |port: u16| self.may.has_udp(port);
        if !own(from_port) && !own(to_port) {
            return Err(format!(
                "neither `from_port` {from_port} nor `to_port` {to_port} is among the plugin's own ports; add one to `udp` \
                 in [may] of its plugin.toml"
            ));
        }
        for (name, port) in [("from_port", from_port), ("to_port", to_port)] {
            if port < LOWEST && !own(port) {
                return Err(format!("`{name}` is {port}, one of the system's own"));
            }
        }
        let as_peer = match as_peer {
            Value::Nil => None,
            other => Some(self.peer(other, "as_peer")?),
        };
        let to = match to {
            Value::Nil => None,
            other => Some(self.peer_list(other)?),
        };
        if as_peer.is_some() && to.is_some() {
            return Err("`as_peer` sends to the game on this computer and `to` to the party; name one".into());
        }
        let group = match group {
            Value::Nil => None,
            Value::String(text) => Some(self.group(text)?),
            other => return Err(format!("`group` is a {}; it is an address as text", other.type_name())),
        };
        Ok(ScriptSend { as_peer, to, group, from_port, to_port, payload: payload.to_vec() })
    }

    fn group(&self, text: &LuaString) -> Result<IpAddr, String> {
        let address: Option<IpAddr> = parsed(text);
        let everybody = IpAddr::V4(Ipv4Addr::BROADCAST);
        address.filter(|group| *group == everybody || self.may.groups.contains(group)).ok_or_else(|| {
            let text = safe(&text.to_string_lossy(), 45);
            format!("`group` is {text}, which is not among the plugin's own groups; add it to `groups` in [may] of its plugin.toml")
        })
    }

    /// A peer that a plugin names.
    pub(super) fn peer(&self, value: &Value, name: &str) -> Result<PeerId, String> {
        let Value::String(text) = value else {
            return Err(format!(
                "`{name}` is {}; it is a peer's id, as in info.peer or lanrage.peers()",
                told(value)
            ));
        };
        let id: Option<PeerId> = if text.as_bytes().len() <= 32 { parsed(text) } else { None };
        id.filter(|id| self.peers.contains_key(id)).ok_or_else(|| {
            let text = safe(&text.to_string_lossy(), 32);
            format!(
                "`{name}` names {text}, who is not in the party; take ids from info.peer or lanrage.peers()"
            )
        })
    }

    /// A list of peers that a plugin names.
    pub(super) fn peer_list(&self, value: &Value) -> Result<Vec<PeerId>, String> {
        let Value::Table(list) = value else {
            return Err(format!("`to` is {}; it is a list of peer ids", told(value)));
        };
        let count = list.raw_len();
        if count > PEERS {
            return Err(format!("`to` has {count} entries; a party has at most {PEERS}"));
        }
        (1..=count)
            .map(|i| {
                let entry: Value = list.raw_get(i).map_err(|_| "`to` cannot be read".to_owned())?;
                self.peer(&entry, "to")
            })
            .collect()
    }
}

fn sendable(value: &Value, name: &str) -> Result<u16, String> {
    port(value).ok_or_else(|| format!("`{name}` is {}; it is a port, 1 to 65535", told(value)))
}

/// A port from Lua.
pub(super) fn port(value: &Value) -> Option<u16> {
    value.as_integer().and_then(|n| u16::try_from(n).ok()).filter(|port| *port != 0)
}

/// A value for a message.
pub(in crate::plugin) fn told(value: &Value) -> String {
    match value {
        Value::Nil => "nil".into(),
        Value::Boolean(b) => b.to_string(),
        Value::Integer(n) => n.to_string(),
        Value::Number(n) if n.is_finite() && n.abs() >= 1e15 => format!("{n:e}"),
        Value::Number(n) => n.to_string(),
        Value::String(text) => format!("\"{}\"", safe(&text.to_string_lossy(), 40)),
        other => format!("a {}", other.type_name()),
    }
}
