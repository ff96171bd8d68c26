//! Carrying connections between host and guest, in both directions.
//!
//! Each carried connection takes an agent connection of its own, so the transport's flow control makes a fast sender wait
//! for a slow receiver and nobody else. Half-close is a frame, [`Kind::ForwardEnd`], because a vhost-user vsock backend turns
//! the host's `shutdown(SHUT_WR)` into the end of both directions. An agent connection that ends without it is a reset.
//!
//! [`Kind::ForwardEnd`]: super::Kind::ForwardEnd

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Most bytes of one `ForwardBytes` frame.
pub const MAX_CHUNK: usize = 64 * 1024;

/// Most addresses of one [`Ports`]. A guest with more listeners shows the first this many.
pub const MAX_PORTS: usize = 1024;

/// Where a socket is, in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, bincode::Encode, bincode::Decode)]
pub enum Address {
    /// A TCP port of the loopback. Connecting tries `127.0.0.1`, then `::1`; listening takes `127.0.0.1`.
    Loopback(u16),
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket, in the agent's root.
    Unix(Vec<u8>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Loopback(port) => write!(f, "localhost:{port}"),
            Address::Tcp(address) => write!(f, "{address}"),
            Address::Unix(path) => write!(f, "unix:{}", String::from_utf8_lossy(path)),
        }
    }
}

/// Connect to `target` in the guest; the agent connection then carries it. `ForwardConnected` answers.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ForwardRequest {
    /// Where to connect to.
    pub target: Address,
}

/// Listen in the guest. The agent connection then belongs to the listener, which lasts as long as it does.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ForwardListenRequest {
    /// Where to listen. Port 0 is any that is free.
    pub address: Address,
}

/// The listener is there.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ForwardListening {
    /// Where it listens, with the port the guest's kernel chose.
    pub address: Address,
}

/// Somebody in the guest connected to the listener. The host takes the connection over another agent connection with
/// [`ForwardTakeRequest`], or declines it; it is reset when the host does neither in time.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ForwardIncoming {
    /// Names the connection; never given twice by one agent.
    pub ticket: u64,
}

/// Reset a connection that the host has nothing to connect to.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ForwardDecline {
    /// The connection's.
    pub ticket: u64,
}

/// Carry a connection that a listener announced. `ForwardConnected` answers.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ForwardTakeRequest {
    /// The connection's.
    pub ticket: u64,
}

/// The TCP ports on which something in the guest listens, but for the agent's own listeners: sent at once, then
/// whenever they change.
#[derive(Debug, Clone, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub struct Ports {
    /// In ascending order, at most [`MAX_PORTS`].
    pub listening: Vec<SocketAddr>,
}

/// Where to connect to from inside the guest to reach a socket that listens at `address`.
#[must_use]
pub fn reachable(address: SocketAddr) -> Address {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST => {
            Address::Loopback(address.port())
        }
        // One that listens on all IPv6 addresses may or may not take IPv4; `Loopback` tries both.
        IpAddr::V6(ip) if ip.is_unspecified() || ip.is_loopback() => Address::Loopback(address.port()),
        IpAddr::V4(_) | IpAddr::V6(_) => Address::Tcp(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_on_every_address_is_reached_over_the_loopback() {
        for text in ["0.0.0.0:80", "127.0.0.1:80", "[::]:80", "[::1]:80"] {
            assert_eq!(reachable(text.parse().unwrap()), Address::Loopback(80), "{text}");
        }
        for text in ["10.0.2.15:80", "127.0.0.53:53", "[fe80::1]:80"] {
            let address = text.parse().unwrap();
            assert_eq!(reachable(address), Address::Tcp(address), "{text}");
        }
    }
}
