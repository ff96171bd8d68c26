//! The vsock ports Firstlight uses, and the context ids it trusts. Source: `vsock(7)`.

/// The agent listens here for the host.
pub const AGENT: u32 = 1024;

/// The host listens here for init's event stream, which is guest-initiated so that the host learns of readiness
/// without dialling.
pub const EVENTS: u32 = 1025;

/// The context id of the host, `VMADDR_CID_HOST` in `vsock(7)`. The agent refuses every other peer.
pub const HOST_CID: u32 = 2;
