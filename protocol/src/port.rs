//! The vsock ports Firstlight uses, and the context ids it trusts. Source: `vsock(7)`.

/// The agent listens here for the host.
pub const AGENT: u32 = 1024;

/// The host listens here for init's event stream, which is guest-initiated so that the host learns of readiness
/// without dialling.
pub const EVENTS: u32 = 1025;

/// The context id of the host, `VMADDR_CID_HOST` in `vsock(7)`. The agent refuses every other peer.
pub const HOST_CID: u32 = 2;

/// The ports of a virtio-serial device, where the host has no vsock for the guest. They are found by their numbers, because a
/// port has its name only some time after its device file.
pub mod serial {
    /// The number of the agent's port, which carries many connections: see the crate `multiplex`.
    pub const AGENT: u32 = 1;

    /// The number of the port of init's event stream. It carries what the vsock connection does, and nothing else.
    pub const EVENTS: u32 = 2;

    /// The device file of [`AGENT`]. Source: `vport%up%u` in the kernel's `drivers/char/virtio_console.c`.
    pub const AGENT_DEVICE: &str = "/dev/vport0p1";

    /// The device file of [`EVENTS`].
    pub const EVENTS_DEVICE: &str = "/dev/vport0p2";
}
