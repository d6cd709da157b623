//! Measuring the way to a peer through the tunnel itself: `lanrage bench`. Packets of a measurement are frames that are
//! sealed, sent, carried and opened as a game's packets are; nothing of this exists while nobody measures.
//!
//! *Who measures* (`run`) asks first, then sends lone packets that come back (`echoes`), and then more and more of them
//! (`climb`): each step is a rate held for a moment (`flow`), and what follows from what became of it is decided by the
//! `ladder`. All deadlines are here.
//!
//! *Who is measured* (`answer`) counts (`tally`), and sends back what is to come back at once: one packet for one
//! packet, never a longer one, within bounds in bytes and time. It has no deadline and no memory that grows.
//!
//! Whoever answers can lie about what it counted, and only harms the figure. Times are taken from this node's own notes, so
//! nothing in a packet can make a round trip shorter than it was.

pub mod answer;
mod climb;
mod echoes;
mod flow;
mod ladder;
pub mod run;
mod tally;

pub use answer::{Answerer, Said};
pub use run::{Failure, Run};
