//! Which of the guest's ports to carry: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use firstlight_protocol::message::forward::{Address, reachable};

/// Ports that are carried, and where each is reached in the guest.
pub(super) type Carried = BTreeMap<u16, Address>;

/// What turns the ports that are carried into those that should be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Carry no more.
    pub(super) close: Vec<u16>,
    /// Carry from now on; a port may be in both, when it is reached elsewhere now.
    pub(super) open: Vec<(u16, Address)>,
}

/// One address for each port that listens in the guest, less those in `except`. The loopback is preferred: it reaches what
/// listens everywhere, too.
pub(super) fn wanted(listening: &[SocketAddr], except: &BTreeSet<u16>) -> Carried {
    let mut wanted = Carried::new();
    for address in listening.iter().filter(|address| !except.contains(&address.port())) {
        let found = reachable(*address);
        match wanted.get(&address.port()) {
            Some(_) if found != Address::Loopback(address.port()) => {}
            _ => {
                wanted.insert(address.port(), found);
            }
        }
    }
    wanted
}

/// The difference between what is carried and what should be.
pub(super) fn change(carried: &Carried, wanted: &Carried) -> Change {
    let differs = |from: &Carried, port: &u16, address: &Address| from.get(port) != Some(address);
    Change {
        close: carried.iter().filter(|(port, at)| differs(wanted, port, at)).map(|(port, _)| *port).collect(),
        open: wanted
            .iter()
            .filter(|(port, at)| differs(carried, port, at))
            .map(|(port, at)| (*port, at.clone()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_port_that_listens_on_many_addresses_is_carried_once_over_the_loopback() {
        let listening = addresses(&["10.0.2.15:80", "0.0.0.0:80", "[::]:80", "10.0.2.15:81", "127.0.0.1:82"]);
        let expected = [(80, Address::Loopback(80)), (81, Address::Tcp("10.0.2.15:81".parse().unwrap()))];
        assert_eq!(wanted(&listening, &BTreeSet::from([82])), Carried::from(expected));
    }

    #[test]
    fn a_port_that_is_reached_elsewhere_now_is_closed_and_opened() {
        let before = wanted(&addresses(&["10.0.2.15:80", "0.0.0.0:81"]), &BTreeSet::new());
        let after = wanted(&addresses(&["127.0.0.1:80", "127.0.0.1:81"]), &BTreeSet::new());
        let expected = Change { close: vec![80], open: vec![(80, Address::Loopback(80))] };
        assert_eq!(change(&before, &after), expected);
    }

    fn any_carried() -> impl Strategy<Value = Carried> {
        let address = prop_oneof![
            (0..3_u16).prop_map(Address::Loopback),
            (0..3_u16).prop_map(|port| Address::Tcp(SocketAddr::from(([10, 0, 2, 15], port)))),
        ];
        prop::collection::btree_map(0..6_u16, address, 0..6)
    }

    proptest! {
        #[test]
        fn a_change_leads_to_what_is_wanted_and_touches_nothing_else(before in any_carried(), after in any_carried()) {
            let change = change(&before, &after);
            let mut carried = before.clone();
            for port in &change.close {
                prop_assert!(carried.remove(port).is_some());
            }
            for (port, address) in &change.open {
                prop_assert!(carried.insert(*port, address.clone()).is_none());
            }
            prop_assert_eq!(&carried, &after);
            for (port, address) in &before {
                let kept = after.get(port) == Some(address);
                prop_assert_eq!(change.close.contains(port), !kept);
            }
        }
    }
}
