//! Plugins: what a profile cannot say, written in Luau and run in a sandbox. The virtual machine and the API; no threads,
//! no files, no clock.
//!
//! ```text
//! plugin.toml ── manifest ──► Manifest ─┐
//! *.luau ───────────────────────────────┴─► Code ── vm ──► Vm: facts, ask (ScriptCall → ScriptAnswer)
//!                                                    │
//!                       budget (ticks, stop flag) ◄──┴──► api (what Lua sees) ── stubs (the same, for editors and people)
//! ```
//!
//! `plugin` and `engine` do not know each other: they talk in `model::script`. What a plugin says is hostile until it was
//! checked, and the engine checks it once more. The host owns the threads, reads the files and raises the stop flag when
//! a call takes too long.

mod api;
mod budget;
pub mod code;
mod fault;
pub mod lint;
pub mod manifest;
pub mod stubs;
pub mod testing;
pub mod vm;
