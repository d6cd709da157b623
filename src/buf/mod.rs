//! Memory of the data plane: slots of one size, and batches of them. Nothing here is allocated per packet.

pub mod aside;
pub mod batch;
pub mod slot;
