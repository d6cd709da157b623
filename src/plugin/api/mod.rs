//! What Lua sees, seen from Rust: the host's few functions behind the prelude, and the desk on which a call's log lines
//! and packets pile up until the call is over.
//!
//! The functions here never raise an error of their own: an error made in Rust lives outside the script's memory limit.
//! They hand back a message, and the prelude raises it at the caller's line.

pub(super) mod answer;
mod host;
pub(super) mod info;
pub(super) mod table;

use crate::model::id::PeerId;
use crate::model::script::{Capabilities, ScriptPeer, ScriptSend};
use mlua::Lua;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

pub(super) use host::{install, peer_table, told};

/// What belongs to the call that runs, and who is in the party.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) may: Capabilities,
    pub(super) now: Duration,
    pub(super) me: Option<Ipv4Addr>,
    pub(super) peers: BTreeMap<PeerId, ScriptPeer>,
    pub(super) log: Vec<String>,
    pub(super) sends: Vec<ScriptSend>,
    /// Bytes of `sends`.
    sent: usize,
}

impl Desk {
    pub(super) const fn new(may: Capabilities) -> Self {
        Self {
            may,
            now: Duration::ZERO,
            me: None,
            peers: BTreeMap::new(),
            log: Vec::new(),
            sends: Vec::new(),
            sent: 0,
        }
    }

    /// A call begins.
    pub(super) fn clear(&mut self, now: Duration, me: Option<Ipv4Addr>) {
        self.now = now;
        self.me = me.or(self.me);
        self.log.clear();
        self.sends.clear();
        self.sent = 0;
    }

    fn seconds(&self) -> f64 {
        self.now.as_secs_f64()
    }

    /// Looks at the desk of a state. Nothing calls back into Lua meanwhile, so it is always free.
    pub(super) fn read<T: Default>(lua: &Lua, look: impl FnOnce(&Self) -> T) -> T {
        match lua.try_app_data_ref::<Self>() {
            Ok(Some(desk)) => look(&desk),
            Ok(None) | Err(_) => T::default(),
        }
    }

    /// Changes the desk of a state.
    pub(super) fn write<T: Default>(lua: &Lua, change: impl FnOnce(&mut Self) -> T) -> T {
        match lua.try_app_data_mut::<Self>() {
            Ok(Some(mut desk)) => change(&mut desk),
            Ok(None) | Err(_) => T::default(),
        }
    }
}

/// A line that is safe to show: no control characters, nothing that turns text around, not too long.
pub(super) fn safe(text: &str, chars: usize) -> String {
    let tame = |c: char| match c {
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
            '\u{fffd}'
        }
        c if c.is_control() => ' ',
        c => c,
    };
    let mut out: String = text.chars().take(chars).map(tame).collect();
    if text.chars().nth(chars).is_some() {
        out.push('…');
    }
    out
}
