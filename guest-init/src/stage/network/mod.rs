//! The network: loopback, then every interface of the spec, all over one netlink socket.

mod message;
mod netlink;

use firstlight_protocol::boot_spec::Interface;
use nix::errno::Errno;

use super::Context;
use super::devices::DeviceError;
use crate::error::{CallError, Cause};
use netlink::Netlink;

/// The index of loopback in the first network namespace. Source: `LOOPBACK_IFINDEX` in `net/flow.h`.
const LOOPBACK: u32 = 1;

/// The network could not be configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{operation}: {}", errno.desc())]
    Refused { operation: String, errno: Errno },
}

impl Cause for NetworkError {
    fn errno(&self) -> Option<Errno> {
        match self {
            NetworkError::Device(error) => error.errno(),
            NetworkError::Call(error) => error.errno(),
            NetworkError::Refused { errno, .. } => Some(*errno),
        }
    }

    fn path(&self) -> Option<&str> {
        match self {
            NetworkError::Device(error) => error.path(),
            NetworkError::Call(error) => error.path(),
            NetworkError::Refused { .. } => None,
        }
    }
}

/// Brings up loopback and the interfaces of the spec.
///
/// # Errors
/// [`NetworkError`], which names the address, route or interface the kernel refused.
pub(crate) fn configure(context: &Context) -> Result<(), NetworkError> {
    let mut netlink = Netlink::open().map_err(CallError::of("open a netlink socket"))?;
    let mut ask = |operation: &dyn Fn() -> String, request: message::Request| {
        netlink.request(request).map_err(|errno| NetworkError::Refused { operation: operation(), errno })
    };
    ask(&|| "bring up loopback".into(), message::link_up(LOOPBACK, None))?;
    for interface in &context.spec.network.interfaces {
        let index = context.devices.interface(interface.mac, context.spec.boot.device_timeout_ms)?;
        ask(
            &|| format!("bring up the interface with mtu {:?}", interface.mtu),
            message::link_up(index, interface.mtu),
        )?;
        for address in &interface.addresses {
            ask(&|| format!("add address {address}"), message::address(index, *address))?;
        }
        for gateway in &interface.gateways {
            let on_link = !reaches(interface, *gateway);
            ask(&|| format!("add a route by {gateway}"), message::default_route(index, *gateway, on_link))?;
        }
    }
    Ok(())
}

/// Whether one of the interface's own networks contains the gateway. The kernel refuses a route by any other gateway
/// unless told that it is on the link all the same, as it is with point-to-point addresses such as `/32`.
fn reaches(interface: &Interface, gateway: std::net::IpAddr) -> bool {
    use std::net::IpAddr;
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    let contains = |address: IpAddr, prefix: u8| {
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        address.is_ipv4() == gateway.is_ipv4() && (bits(address) ^ bits(gateway)) & mask == 0
    };
    let link_local = matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
    link_local || interface.addresses.iter().any(|cidr| contains(cidr.address, cidr.prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reachable(addresses: &[&str], gateway: &str) -> bool {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let interface = Interface { mac: None, addresses, gateways: vec![], mtu: None };
        reaches(&interface, gateway.parse().unwrap())
    }

    #[test]
    fn a_gateway_is_reached_through_a_network_that_contains_it() {
        assert!(reachable(&["10.0.2.15/24"], "10.0.2.2"));
        assert!(!reachable(&["10.0.2.15/24"], "10.0.3.2"));
        assert!(!reachable(&["10.0.2.15/32"], "10.0.2.2"));
        assert!(reachable(&["10.0.2.15/32", "fec0::15/64"], "fec0::2"));
        assert!(reachable(&["10.0.2.15/0"], "192.0.2.1"));
    }

    #[test]
    fn addresses_of_the_other_family_reach_nothing() {
        assert!(!reachable(&["::/0"], "10.0.2.2"));
        assert!(!reachable(&["0.0.0.0/0"], "fec0::2"));
    }

    #[test]
    fn a_link_local_gateway_is_always_on_the_link() {
        assert!(reachable(&["fec0::15/64"], "fe80::1"));
    }
}
