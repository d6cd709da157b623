//! How long a call may take: counted in ticks, and ended from outside.
//!
//! Luau calls the interrupt at every turn of a loop, every call, every return and every step of a pattern. Each is one
//! tick. When the budget is spent, or the host has raised the stop flag, every further tick raises an error, so that a
//! script which catches errors is caught again at once. Ticks are the same on every computer; wall time is the host's
//! business.

use mlua::{Lua, VmState};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// Ticks of one call: about 1 ms of an empty loop, hundreds of times what a hook needs.
pub const TICKS: u32 = 100_000;
/// Ticks of the first run, in which a plugin may build its tables.
pub(super) const LOAD_TICKS: u32 = 2_000_000;

/// Why a call was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ended {
    #[error("it took too long and was stopped")]
    ByHost,
    #[error("it used up its budget of steps")]
    ByTicks,
}

/// The budget of the call that runs.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicU32,
    stop: Arc<AtomicBool>,
    /// Where the plugin was when it was ended. Written once: after that it never runs again.
    place: OnceLock<String>,
}

impl Budget {
    /// Puts the interrupt into a state.
    pub(super) fn install(lua: &Lua, stop: Arc<AtomicBool>) -> Arc<Self> {
        let budget = Arc::new(Self { left: AtomicU32::new(LOAD_TICKS), stop, place: OnceLock::new() });
        let own = Arc::clone(&budget);
        lua.set_interrupt(move |lua| match own.tick() {
            None => Ok(VmState::Continue),
            Some(ended) => {
                own.place.get_or_init(|| place(lua));
                Err(mlua::Error::external(ended))
            }
        });
        budget
    }

    /// One thread counts, so plain loads and stores are enough.
    #[inline]
    fn tick(&self) -> Option<Ended> {
        let left = self.left.load(Relaxed);
        if self.stop.load(Relaxed) {
            return Some(Ended::ByHost);
        }
        if left == 0 {
            return Some(Ended::ByTicks);
        }
        self.left.store(left - 1, Relaxed);
        None
    }

    pub(super) fn start(&self, ticks: u32) {
        self.left.store(ticks, Relaxed);
    }

    pub(super) fn left(&self) -> u32 {
        self.left.load(Relaxed)
    }

    /// Whether the call that just came back was ended, even if the script caught the error of it.
    pub(super) fn ended(&self) -> Option<Ended> {
        if self.stop.load(Relaxed) {
            return Some(Ended::ByHost);
        }
        (self.left() == 0).then_some(Ended::ByTicks)
    }

    pub(super) fn place(&self) -> &str {
        self.place.get().map_or("", String::as_str)
    }
}

/// File and line of the plugin's code that runs now.
fn place(lua: &Lua) -> String {
    (0..LEVELS)
        .map_while(|level| {
            lua.inspect_stack(level, |at| {
                let file = at.source().short_src.map(|s| s.into_owned()).unwrap_or_default();
                at.current_line()
                    .filter(|_| super::code::module_name(&file).is_some())
                    .map(|line| format!("{file}:{line}"))
            })
        })
        .flatten()
        .next()
        .unwrap_or_default()
}

/// How far up the plugin's own code is looked for: a pattern inside a helper is three levels.
const LEVELS: usize = 8;
