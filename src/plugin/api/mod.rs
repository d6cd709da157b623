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
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

pub(super) use host::{install, peer_table, told};

/// What changes with every call. One thread writes and reads it: the atomics only let functions that live inside the
/// state hold it too, and cost nothing, while the desk costs a look-up.
#[derive(Debug, Default)]
pub(super) struct Slate {
    /// The question's time in nanoseconds.
    now: AtomicU64,
    /// This node's virtual address; 0 is not known yet.
    me: AtomicU32,
    /// Something lies on the desk.
    pub(super) touched: AtomicBool,
}

impl Slate {
    /// A call begins.
    pub(super) fn begin(&self, now: Duration, me: Option<Ipv4Addr>) {
        self.now.store(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        if let Some(me) = me {
            self.me.store(me.to_bits(), Relaxed);
        }
    }

    fn seconds(&self) -> f64 {
        Duration::from_nanos(self.now.load(Relaxed)).as_secs_f64()
    }

    fn me(&self) -> Option<Ipv4Addr> {
        Some(self.me.load(Relaxed)).filter(|bits| *bits != 0).map(Ipv4Addr::from_bits)
    }
}

/// What the call that runs logs and sends, and who is in the party.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) may: Capabilities,
    pub(super) peers: BTreeMap<PeerId, ScriptPeer>,
    pub(super) log: Vec<String>,
    pub(super) sends: Vec<ScriptSend>,
    /// Bytes of `sends`.
    sent: usize,
}

impl Desk {
    pub(super) const fn new(may: Capabilities) -> Self {
        Self { may, peers: BTreeMap::new(), log: Vec::new(), sends: Vec::new(), sent: 0 }
    }

    /// What the last call left is thrown away.
    pub(super) fn clear(&mut self) {
        self.log.clear();
        self.sends.clear();
        self.sent = 0;
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
