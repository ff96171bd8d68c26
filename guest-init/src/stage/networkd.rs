//! The network as systemd-networkd is told of it: the addresses that init has set, to be kept with their routes, so that
//! networkd takes the interfaces over without touching them and `network-online.target` is reached. Pure. Source:
//! `systemd.network(5)`.

use std::fmt::Write as _;

use firstlight_protocol::boot_spec::{Interface, Network};

/// A `.network` file for each interface of the spec.
pub(crate) fn files(network: &Network) -> Vec<String> {
    network.interfaces.iter().map(|interface| file(interface, network)).collect()
}

fn file(interface: &Interface, network: &Network) -> String {
    let mut text = String::from("[Match]\n");
    // Writing to a String cannot fail.
    let _ = match interface.mac {
        Some(mac) => writeln!(text, "MACAddress={mac}"),
        None => writeln!(text, "Type=ether"),
    };
    text.push_str("\n[Network]\nKeepConfiguration=yes\nDHCP=no\nIPv6AcceptRA=no\n");
    for address in &interface.addresses {
        let _ = writeln!(text, "Address={address}");
    }
    for server in &network.dns.servers {
        let _ = writeln!(text, "DNS={server}");
    }
    if !network.dns.search.is_empty() {
        let _ = writeln!(text, "Domains={}", network.dns.search.join(" "));
    }
    if let Some(mtu) = interface.mtu {
        let _ = writeln!(text, "\n[Link]\nMTUBytes={mtu}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_protocol::boot_spec::Dns;

    #[test]
    fn an_interface_is_matched_by_its_address_and_keeps_what_init_set() {
        let interface = Interface {
            mac: Some("52:54:00:12:34:56".parse().unwrap()),
            addresses: vec!["10.0.2.15/24".parse().unwrap()],
            gateways: vec!["10.0.2.2".parse().unwrap()],
            mtu: Some(1400),
        };
        let dns = Dns { servers: vec!["10.0.2.3".parse().unwrap()], search: vec!["example".into()] };
        let files = files(&Network { interfaces: vec![interface], dns });
        let [text] = files.as_slice() else { panic!("{files:?}") };
        for line in [
            "MACAddress=52:54:00:12:34:56",
            "KeepConfiguration=yes",
            "Address=10.0.2.15/24",
            "DNS=10.0.2.3",
            "Domains=example",
            "MTUBytes=1400",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }

    #[test]
    fn a_guest_without_interfaces_leaves_networkd_alone() {
        assert!(files(&Network::default()).is_empty());
    }
}
