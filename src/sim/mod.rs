//! The other world: virtual time, links, LANs with game programs, faults, and an oracle. One thread, one seed.
