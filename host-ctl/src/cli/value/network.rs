//! `user`, `none`, `tap:IF,address=CIDR,...`.

use std::net::IpAddr;

use firstlight_protocol::boot_spec::{Cidr, Mac};

/// One `--net` argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Net {
    User,
    None,
    Tap(Tap),
}

/// A tap device, and what the guest is told of the network behind it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tap {
    pub(crate) interface: String,
    pub(crate) addresses: Vec<Cidr>,
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) dns: Vec<IpAddr>,
    pub(crate) mtu: Option<u32>,
    pub(crate) mac: Option<Mac>,
}

/// `IFNAMSIZ` without its NUL. Source: `netdevice(7)`.
const MAX_INTERFACE: usize = 15;

const EXAMPLE: &str = "write it like user, none or tap:tap0,address=192.168.7.2/24,gateway=192.168.7.1";

/// Parses a network.
pub(crate) fn parse(text: &str) -> Result<Net, String> {
    match text {
        "user" => Ok(Net::User),
        "none" => Ok(Net::None),
        _ => {
            let tap =
                text.strip_prefix("tap:").ok_or_else(|| format!("{text:?} is no network; {EXAMPLE}"))?;
            parse_tap(tap).map(Net::Tap)
        }
    }
}

fn parse_tap(text: &str) -> Result<Tap, String> {
    let mut parts = text.split(',');
    let interface = parts.next().unwrap_or_default().to_owned();
    if interface.is_empty() || interface.len() > MAX_INTERFACE || interface.contains('/') {
        return Err(format!("{interface:?} is no network device; {EXAMPLE}"));
    }
    let mut tap = Tap { interface, ..Tap::default() };
    for part in parts {
        let (key, value) = part.split_once('=').ok_or_else(|| format!("{part:?} has no value; {EXAMPLE}"))?;
        match key {
            "address" => tap.addresses.push(value.parse().map_err(shown::<Cidr>)?),
            "gateway" => tap.gateways.push(parse_ip(value)?),
            "dns" => tap.dns.push(parse_ip(value)?),
            "mtu" => tap.mtu = Some(value.parse().map_err(|_| format!("{value:?} is no MTU in bytes"))?),
            "mac" => tap.mac = Some(value.parse().map_err(shown::<Mac>)?),
            _ => return Err(format!("{key:?} is none of address, gateway, dns, mtu and mac")),
        }
    }
    Ok(tap)
}

fn shown<T: std::str::FromStr>(error: T::Err) -> String
where
    T::Err: std::fmt::Display,
{
    error.to_string()
}

fn parse_ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no IP address"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tap_carries_what_the_guest_is_told() {
        let text =
            "tap:tap0,address=192.168.7.2/24,address=fec0::2/64,gateway=192.168.7.1,dns=9.9.9.9,mtu=1400";
        let Ok(Net::Tap(tap)) = parse(text) else { panic!("no tap") };
        assert_eq!(tap.interface, "tap0");
        assert_eq!((tap.addresses.len(), tap.gateways.len(), tap.dns.len()), (2, 1, 1));
        assert_eq!((tap.mtu, tap.mac), (Some(1400), None));
    }

    #[test]
    fn what_is_no_network_is_refused_with_the_part_that_is_wrong() {
        for (text, part) in [
            ("bridge", "bridge"),
            ("tap:", "\"\""),
            ("tap:t,address=1.2.3.4", "1.2.3.4"),
            ("tap:t,speed=9", "speed"),
            ("tap:t,mtu", "mtu"),
            ("tap:t,gateway=x", "\"x\""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_network_or_an_error(text: String) {
            let _ = parse(&format!("tap:{text}"));
        }
    }
}
