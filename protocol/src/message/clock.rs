//! The guest's wall clock, which stands still while the VM does.

/// Set the wall clock, because the guest has stood still. The answer is empty.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ClockRequest {
    /// The host's clock as this is sent, in nanoseconds since 1970.
    pub wall_ns: u64,
}
