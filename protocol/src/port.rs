//! The vsock ports Firstlight uses, and the context ids it trusts. Source: `vsock(7)`.

/// The agent listens here for the host.
pub const AGENT: u32 = 1024;

/// The host listens here for init's event stream, which is guest-initiated so that the host learns of readiness
/// without dialling. A large number: `vhost-device-vsock` 0.3.0 numbers the connections that it makes into a guest from 0 on, and
/// when it comes to the host's port of a connection that the guest has open it makes none any more. With 1025 that was a VM's
/// 1026th connection.
pub const EVENTS: u32 = 4_000_001_025;

/// The context id of the host, `VMADDR_CID_HOST` in `vsock(7)`. The agent refuses every other peer.
pub const HOST_CID: u32 = 2;

/// The ports of a virtio-serial device, where the host has no vsock for the guest. They are told by their numbers: a port has
/// its name only some time after its device file.
pub mod serial {
    /// The number of the agent's port, which carries many connections: see the crate `multiplex`.
    pub const AGENT: u32 = 1;

    /// The number of the port of init's event stream. It carries what the vsock connection does, and nothing else.
    pub const EVENTS: u32 = 2;

    /// Where the guest's kernel lists its ports. Source: `virtcons_class` in its `drivers/char/virtio_console.c`.
    pub const PORTS: &str = "/sys/class/virtio-ports";

    /// Whether `name` in [`PORTS`], which is also the device file's in `/dev`, is that of port `number`. Source: `vport%up%u`
    /// in the same file, of which the first number is the virtio device's.
    #[must_use]
    pub fn is_port(name: &str, number: u32) -> bool {
        let numbers = name.strip_prefix("vport").and_then(|numbers| numbers.split_once('p'));
        numbers.is_some_and(|(_, port)| port.parse() == Ok(number))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_port_is_told_by_its_own_number_and_not_by_its_device_s() {
            assert!(is_port("vport1p2", EVENTS));
            assert!(!is_port("vport2p1", EVENTS));
            assert!(!is_port("vport0p21", EVENTS));
            assert!(!is_port("hvc1p2", EVENTS));
        }
    }
}
