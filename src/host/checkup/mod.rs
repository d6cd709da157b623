//! Looking at this computer, once, for `lanrage doctor`: nothing is changed, and everything ends within seconds.
//!
//! * `stun`: what the servers say about the router, asked by a socket of its own with the node's own prober
//! * `page`: whether a server is reached by TCP and TLS, how long that takes, and what its clock says
//! * `firewall`: what this computer's firewall does with packets for the tunnel, and with those that come out of it
//! * `rights`: whether this program may make a tunnel device, and what the card of the internet is like
//!
//! `host::lease::once` belongs to it: a port that is asked for and given back.

pub mod firewall;
pub mod page;
pub mod rights;
pub mod stun;
