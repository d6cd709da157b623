//! lanrage: a plugin-extensible, game-aware LAN bridge.
//!
//! Everything that decides is pure; everything that touches the world is thin; a real world and a simulated world
//! drive the same decisions. `docs/architecture.md` tells the whole story; this is the map:
//!
//! | module | what | may import |
//! |---|---|---|
//! | [`model`] | the words everyone uses: ids, keys, addresses, time, dice, status | – |
//! | [`buf`] | memory: slots and batches | model |
//! | [`wire`] | bytes to types and back; no state | model, buf |
//! | [`rules`] | what a game looks like: profiles, compiled to a matcher | model, wire |
//! | [`engine`] | the bridge: state machines only | the four above |
//! | [`host`] | the real world: sockets, clock, dice, threads, files | all above |
//! | [`server`] | sockets around `engine::lobby` | as host |
//! | `sim` | the other world: virtual time, links, LANs (feature `sim`) | all above but host and server |
//! | [`ui`] | what people see and type | model |
//! | [`app`] | puts the parts together | everything but sim |

pub mod app;
pub mod buf;
pub mod engine;
pub mod host;
pub mod model;
pub mod plugin;
pub mod rules;
pub mod server;
#[cfg(feature = "sim")]
pub mod sim;
pub mod ui;
pub mod wire;
