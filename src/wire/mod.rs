//! Bytes to types and back. No state, nothing allocated to read a packet.
//!
//! * `packet`: IPv4 and IPv6 with UDP and TCP: views, changes, checksums
//! * `offload`: several packets in one read or write of a tunnel device
//! * `frame`: what travels inside a tunnel beside plain IP packets
//! * `measure`: what travels in a tunnel while the way is measured
//! * `kind`: what a datagram on the tunnel's socket is, by its first bytes
//! * `knock`: how two members meet who do not know each other's keys
//! * `control`: what a node and a control plane say to each other
//! * `credential`: the time-limited credentials of a relay
//! * `stun`: STUN and TURN messages, read in place
//! * `channel`: TURN ChannelData, and messages on a stream
//! * `invite`: the text that lets a peer into a party

pub mod channel;
pub mod control;
pub mod credential;
pub mod frame;
pub mod invite;
pub mod kind;
pub mod knock;
pub mod measure;
pub mod offload;
pub mod packet;
pub mod stun;
