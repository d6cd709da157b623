//! Plugins: what a profile cannot say, written in Luau and run in a sandbox. The virtual machine and the API; no threads,
//! no files, no clock.
//!
//! `plugin` and `engine` do not know each other: they talk in `model::script`.
