//! Network interfaces, set up by netlink requests, one after the other and each acknowledged.
//!
//! Init does it at boot, the agent once more after a restore. [`request`] says what, [`Netlink`] carries it.

mod netlink;
pub mod request;

use std::net::IpAddr;

use firstlight_protocol::boot_spec::Cidr;

pub use netlink::Netlink;
pub use request::Request;

/// Whether one of an interface's own networks, by its `addresses`, contains the gateway. The kernel refuses a route by any other gateway
/// unless told that it is on the link all the same, as it is with point-to-point addresses such as `/32`.
#[must_use]
pub fn reaches(addresses: &[Cidr], gateway: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    };
    let contains = |address: IpAddr, prefix: u8| {
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
        address.is_ipv4() == gateway.is_ipv4() && (bits(address) ^ bits(gateway)) & mask == 0
    };
    let link_local = matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
    link_local || addresses.iter().any(|cidr| contains(cidr.address, cidr.prefix))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "test code")]
mod tests {
    use super::*;

    fn reachable(addresses: &[&str], gateway: &str) -> bool {
        let addresses: Vec<Cidr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        reaches(&addresses, gateway.parse().unwrap())
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
