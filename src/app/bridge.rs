//! Runs a node: chooses the party, starts the data thread and everything slow around it, and hands out the ends that
//! the command line and a running node's socket use.

pub mod party;
