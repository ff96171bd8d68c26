//! How the guest's network is set up. Source: `getifaddrs(3)`, `sysfs-class-net`, `proc_pid_net(5)`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::network::{Gateway, Interface, MAX_ENTRIES, Network};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use crate::{failure, system_file};

const HOSTNAME: &str = "/proc/sys/kernel/hostname";
const LINKS: &str = "/sys/class/net";
const ROUTES: &str = "/proc/net/route";
const ROUTES_V6: &str = "/proc/net/ipv6_route";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Most name servers; a resolver looks at three.
const MAX_NAMESERVERS: usize = 8;

/// Interfaces, default routes and name servers.
///
/// # Errors
/// When the kernel does not list its interfaces. A file that is not there says nothing.
pub fn answer() -> Result<Network, AgentError> {
    let routes = parse_routes(&system_file::read_optional(ROUTES)?.unwrap_or_default());
    let routes_v6 = parse_routes_v6(&system_file::read_optional(ROUTES_V6)?.unwrap_or_default());
    let resolv_conf = system_file::read_optional(RESOLV_CONF)?.unwrap_or_default();
    Ok(Network {
        hostname: system_file::read(HOSTNAME)?.trim_end().to_owned(),
        interfaces: interfaces()?,
        gateways: routes.into_iter().chain(routes_v6).take(MAX_ENTRIES).collect(),
        nameservers: parse_nameservers(&resolv_conf),
    })
}

/// The kernel lists each interface once for its link and once for each of its addresses.
fn interfaces() -> Result<Vec<Interface>, AgentError> {
    let entries = getifaddrs().map_err(|errno| failure::system("list interfaces", None, &errno.into()))?;
    let mut found: BTreeMap<String, Interface> = BTreeMap::new();
    for entry in entries {
        if found.len() == MAX_ENTRIES && !found.contains_key(&entry.interface_name) {
            continue;
        }
        let name = entry.interface_name.clone();
        let interface = found.entry(name).or_insert_with(|| describe(&entry));
        if let Some(address) = address(&entry).filter(|_| interface.addresses.len() < MAX_ENTRIES) {
            interface.addresses.push(address);
        }
    }
    Ok(found.into_values().collect())
}

fn describe(entry: &InterfaceAddress) -> Interface {
    let attribute = |name: &str| {
        let text = system_file::read(Path::new(LINKS).join(&entry.interface_name).join(name)).ok()?;
        Some(text.trim_end().to_owned())
    };
    Interface {
        name: entry.interface_name.clone(),
        // A link without one has none or only zeroes.
        mac: attribute("address").filter(|mac| mac.bytes().any(|byte| !matches!(byte, b'0' | b':'))),
        mtu: attribute("mtu").and_then(|mtu| mtu.parse().ok()).unwrap_or(0),
        up: entry.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING),
        addresses: Vec::new(),
    }
}

fn address(entry: &InterfaceAddress) -> Option<String> {
    let address = ip(entry.address.as_ref()?)?;
    let prefix = match ip(entry.netmask.as_ref()?)? {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    };
    Some(format!("{address}/{prefix}"))
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// The default routes of a table whose lines are interface, destination, gateway, flags, three others, mask. Addresses are
/// the memory of a `u32`, in hexadecimal.
fn parse_routes(text: &str) -> Vec<Gateway> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [interface, destination, gateway, _, _, _, _, mask, ..] = fields[..] else { return None };
        let gateway = u32::from_str_radix(gateway, 16).ok()?;
        let is_default = destination == "00000000" && mask == "00000000" && gateway != 0;
        let address = IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes()));
        is_default.then(|| Gateway { address, interface: interface.to_owned() })
    };
    text.lines().filter_map(parse).collect()
}

/// The default routes of a table whose lines are destination and its prefix, source and its prefix, next hop, four others,
/// interface.
fn parse_routes_v6(text: &str) -> Vec<Gateway> {
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, prefix, _, _, gateway, _, _, _, _, interface] = fields[..] else { return None };
        let gateway = u128::from_str_radix(gateway, 16).ok()?;
        let address = IpAddr::V6(Ipv6Addr::from(gateway));
        (prefix == "00" && gateway != 0).then(|| Gateway { address, interface: interface.to_owned() })
    };
    text.lines().filter_map(parse).collect()
}

/// Source: `resolv.conf(5)`.
fn parse_nameservers(text: &str) -> Vec<String> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())
    });
    servers.take(MAX_NAMESERVERS).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_routes_to_everywhere_have_a_gateway() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                    eth1\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0\n";
        let expected = Gateway { address: "10.0.2.2".parse().unwrap(), interface: "eth0".into() };
        assert_eq!(parse_routes(text), [expected]);
    }

    #[test]
    fn the_same_holds_for_the_other_family() {
        let none = "0".repeat(32);
        let router = "fd00000000000000000000000000002a";
        let text = format!(
            "{none} 00 {none} 00 {router} 00000400 00000001 00000000 00000003 eth0\n\
             {none} 00 {none} 00 {none} ffffffff 00000001 00000000 00200200 lo\n\
             fd000000000000000000000000000000 40 {none} 00 {none} 00000100 00000001 00000000 00000001 eth0\n"
        );
        let expected = Gateway { address: "fd00::2a".parse().unwrap(), interface: "eth0".into() };
        assert_eq!(parse_routes_v6(&text), [expected]);
    }

    #[test]
    fn name_servers_are_taken_as_written() {
        let text = "# nameserver 9.9.9.9\nsearch example\nnameserver 10.0.2.3\n  nameserver fe80::1%eth0 x\nnameserver\n";
        assert_eq!(parse_nameservers(text), ["10.0.2.3", "fe80::1%eth0"]);
    }

    #[test]
    fn the_loopback_has_its_address_and_no_hardware_address() {
        let interfaces = interfaces().unwrap();
        let loopback = interfaces.iter().find(|interface| interface.name == "lo").unwrap();
        assert_eq!(loopback.mac, None);
        assert!(loopback.mtu > 0);
        assert!(loopback.addresses.contains(&"127.0.0.1/8".to_owned()), "{loopback:?}");
    }
}
