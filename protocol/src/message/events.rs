//! This boot's sentinels, kept by the agent for a host that lost its own.

/// Give the sentinels of this boot.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct EventsRequest {
    /// The first sequence number wanted.
    pub from_seq: u64,
}

/// Signed lines as init wrote them, each with its newline, in order. The host proves them as it does any other.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Events {
    /// The lines.
    pub lines: Vec<u8>,
}
