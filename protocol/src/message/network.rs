//! How the guest's network is set up.

use std::net::IpAddr;

use serde::Serialize;

/// Most interfaces, and most addresses of each, in one answer. A guest with more shows the first this many.
pub const MAX_ENTRIES: usize = 64;

/// The guest's network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Network {
    /// The guest's host name.
    pub hostname: String,
    /// Its interfaces, the loopback included.
    pub interfaces: Vec<Interface>,
    /// Where packets to everywhere else go.
    pub gateways: Vec<Gateway>,
    /// Name servers of `/etc/resolv.conf`, as written there.
    pub nameservers: Vec<String>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Interface {
    /// Its name, such as `eth0`.
    pub name: String,
    /// Its hardware address, where it has one.
    pub mac: Option<String>,
    /// Bytes of the largest packet.
    pub mtu: u32,
    /// Whether it is up and has a carrier (`IFF_UP` and `IFF_RUNNING`).
    pub up: bool,
    /// Its addresses, each with the length of its prefix: `10.0.2.15/24`.
    pub addresses: Vec<String>,
}

/// A default route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Gateway {
    /// The router.
    pub address: IpAddr,
    /// The interface it is reached through.
    pub interface: String,
}
