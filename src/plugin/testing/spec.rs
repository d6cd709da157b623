//! The table that `test.packet` and `test.describe` take, read without believing anything of it.

use super::bench::{Bench, ME};
use crate::rules::nearest::nearest;
use crate::rules::pattern::Pattern;
use crate::rules::ruleset::RuleKind;
use crate::rules::sample::Sample;
use mlua::{Table, Value};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where packets go that say nothing, of a plugin without ports.
pub(super) const ANY_PORT: u16 = 27_999;

/// A packet as a test describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Spec {
    /// What people call it.
    pub(super) name: String,
    /// What it is.
    pub(super) kind: Option<RuleKind>,
    /// Who sent it; `None` is the game on this computer.
    pub(super) from_peer: Option<String>,
    /// Source port.
    pub(super) from_port: Option<u16>,
    /// Destination.
    pub(super) to: Option<SocketAddr>,
    to_port: Option<u16>,
    /// What it carries.
    pub(super) payload: Vec<u8>,
}

const KEYS: [&str; 10] =
    ["kind", "hook", "from_peer", "text", "hex", "bytes", "sample", "from_port", "to_port", "to"];
const KINDS: [(&str, &str, RuleKind); 3] = [
    ("announcement", "on_announcement", RuleKind::Announcement),
    ("query", "on_query", RuleKind::Query),
    ("answer", "on_answer", RuleKind::Answer),
];

impl Spec {
    /// Reads the table.
    ///
    /// # Errors
    /// A sentence about the first thing that is wrong.
    pub(super) fn read(table: &Table, samples: &[Sample]) -> Result<Self, String> {
        refuse_others(table)?;
        let mut spec = Self { name: "a packet of the test".into(), ..Self::default() };
        let carried =
            ["text", "hex", "bytes", "sample"].into_iter().filter(|key| get(table, key) != Value::Nil);
        match carried.collect::<Vec<_>>().as_slice() {
            [] => return Err("what does the packet carry? give it text, hex, bytes or sample".into()),
            ["sample"] => spec.take_sample(&need_text(table, "sample")?, samples)?,
            ["hex"] => {
                let text = need_text(table, "hex")?;
                let bytes = Pattern::hex(&text).ok().and_then(|p| p.as_exact().map(<[u8]>::to_vec));
                spec.payload = bytes.ok_or_else(|| format!("`hex` is no hexadecimal text: {text}"))?;
            }
            [key] => spec.payload = need_bytes(&get(table, key), key)?,
            [one, other, ..] => return Err(format!("a packet has either {one} or {other}, not both")),
        }
        spec.take_kind(table)?;
        if get(table, "from_peer") != Value::Nil {
            spec.from_peer = Some(need_text(table, "from_peer")?);
        }
        for (key, port) in [("from_port", &mut spec.from_port), ("to_port", &mut spec.to_port)] {
            let value = get(table, key);
            if value != Value::Nil {
                let number = value.as_integer().and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
                *port = Some(number.ok_or_else(|| format!("`{key}` is a port, 1 to 65535"))?);
            }
        }
        if get(table, "to") != Value::Nil {
            let text = need_text(table, "to")?;
            let port = spec.to_port.or_else(|| spec.to.map(|to| to.port()));
            spec.to = Some(destination(&text, port)?);
        } else if let (Some(to), Some(port)) = (&mut spec.to, spec.to_port) {
            to.set_port(port);
        }
        Ok(spec)
    }

    /// Where a packet goes when the test does not say: announcements and queries to everybody, answers to one computer.
    #[must_use]
    pub(super) fn usual_destination(&self, from_peer: bool, port: u16) -> SocketAddr {
        let port = self.to_port.unwrap_or(port);
        let address = match self.kind {
            Some(RuleKind::Answer) if from_peer => ME,
            Some(RuleKind::Answer) => Ipv4Addr::new(10, 83, 7, super::bench::FIRST),
            Some(RuleKind::Announcement | RuleKind::Query | RuleKind::Closing) | None => Ipv4Addr::BROADCAST,
        };
        SocketAddr::new(IpAddr::V4(address), port)
    }

    fn take_sample(&mut self, name: &str, samples: &[Sample]) -> Result<(), String> {
        let Some(sample) = samples.iter().find(|sample| sample.name == name) else {
            let near = nearest(name, samples.iter().map(|sample| sample.name.as_str()));
            let help = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            return Err(format!("no sample is called `{name}`{help}"));
        };
        self.name = format!("[{name}]");
        self.kind = sample.expect;
        self.payload.clone_from(&sample.payload);
        self.from_port = Some(sample.from.port());
        self.to = Some(sample.to);
        Ok(())
    }

    fn take_kind(&mut self, table: &Table) -> Result<(), String> {
        for key in ["kind", "hook"] {
            if get(table, key) == Value::Nil {
                continue;
            }
            let word = need_text(table, key)?;
            let found = KINDS.iter().find(|(kind, hook, _)| *kind == word || *hook == word);
            let Some((_, _, kind)) = found else {
                let near = nearest(&word, KINDS.iter().flat_map(|(kind, hook, _)| [*kind, *hook]));
                let help = near.unwrap_or("announcement, query or answer");
                return Err(format!("`{word}` is no `{key}`; did you mean {help}?"));
            };
            self.kind = Some(*kind);
        }
        Ok(())
    }
}

/// That nobody of this name is there, and who is.
#[must_use]
pub(super) fn nobody(name: &str, bench: &Bench) -> String {
    let near = nearest(name, bench.names());
    let help = near.map_or_else(
        || format!("let them join first: test.join(\"{name}\")"),
        |near| format!("did you mean {near}?"),
    );
    format!("nobody called {name} is in the party; {help}")
}

fn refuse_others(table: &Table) -> Result<(), String> {
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair.map_err(|_| "the table cannot be read".to_owned())?;
        let key = key.to_string().unwrap_or_default();
        if !KEYS.contains(&key.as_str()) {
            let near = nearest(&key, KEYS);
            let help = near.map_or_else(
                || format!("it has {}", KEYS.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            return Err(format!("a packet has no `{key}`; {help}"));
        }
    }
    Ok(())
}

fn destination(text: &str, port: Option<u16>) -> Result<SocketAddr, String> {
    if let Ok(whole) = text.parse() {
        return Ok(whole);
    }
    let address = text.parse::<IpAddr>().ok().zip(port).map(|(address, port)| SocketAddr::new(address, port));
    address.ok_or_else(|| format!("`to` is an address and port such as 255.255.255.255:6112, not {text}"))
}

fn get(table: &Table, key: &str) -> Value {
    table.raw_get(key).unwrap_or(Value::Nil)
}

fn need_text(table: &Table, key: &str) -> Result<String, String> {
    let value = get(table, key);
    let text = value.as_string().map(mlua::LuaString::to_string_lossy);
    text.ok_or_else(|| format!("`{key}` is text, not a {}", value.type_name()))
}

fn need_bytes(value: &Value, key: &str) -> Result<Vec<u8>, String> {
    let text = value.as_string().map(|text| text.as_bytes().to_vec());
    let bytes = text.or_else(|| value.as_buffer().map(mlua::Buffer::to_vec));
    bytes.ok_or_else(|| format!("`{key}` is text or a buffer, not a {}", value.type_name()))
}
