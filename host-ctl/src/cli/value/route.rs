//! `8080:80`, `0.0.0.0:8080:80`, `8080:/run/app.sock`, `unix:/host.sock:/guest.sock`: where one side listens, then where the
//! other connects to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use firstlight_protocol::message::forward::Address;

/// Both ends of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// Where one side listens.
    pub(crate) from: Address,
    /// Where the other connects to.
    pub(crate) to: Address,
}

/// Which end is a path of the guest, which has no working directory of ours.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guest {
    From,
    To,
}

/// Parses a route from the host into the guest.
pub(crate) fn parse_outward(text: &str) -> Result<Route, String> {
    parse(text, Guest::To).map_err(|why| {
        format!("{text:?}: {why}; write it like 8080:80, 0.0.0.0:8080:80 or unix:/host.sock:/guest.sock")
    })
}

/// Parses a route from the guest to the host.
pub(crate) fn parse_inward(text: &str) -> Result<Route, String> {
    parse(text, Guest::From).map_err(|why| {
        format!(
            "{text:?}: {why}; write it like 9000:9000 or unix:/guest.sock:/host.sock, the guest's side first"
        )
    })
}

fn parse(text: &str, guest: Guest) -> Result<Route, String> {
    let mut parts = split(text).into_iter();
    let from = address(&mut parts)?.ok_or("nothing to listen on")?;
    let to = match (address(&mut parts)?, &from) {
        (Some(to), _) => to,
        (None, Address::Loopback(port)) => Address::Loopback(*port),
        (None, Address::Tcp(_) | Address::Unix(_)) => return Err("nothing to connect to".into()),
    };
    if let Some(extra) = parts.next() {
        return Err(format!("{extra:?} belongs to neither end"));
    }
    let port = match &to {
        Address::Loopback(port) => Some(*port),
        Address::Tcp(address) => Some(address.port()),
        Address::Unix(_) => None,
    };
    if port == Some(0) {
        return Err("port 0 can be listened on, for any that is free, and not connected to".into());
    }
    let in_guest = if guest == Guest::From { &from } else { &to };
    if matches!(in_guest, Address::Unix(path) if !path.starts_with(b"/")) {
        return Err("a path in the guest is absolute".into());
    }
    Ok(Route { from, to })
}

/// Splits at colons, but for those between brackets.
fn split(text: &str) -> Vec<&str> {
    let mut inside = false;
    text.split(|c| {
        inside = c == '[' || (inside && c != ']');
        c == ':' && !inside
    })
    .collect()
}

/// Takes one end from the parts: a path, a port, or an address and a port.
fn address<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Result<Option<Address>, String> {
    let Some(first) = parts.next() else { return Ok(None) };
    let unix = first == "unix";
    let first = if unix { parts.next().unwrap_or_default() } else { first };
    if first.contains('/') {
        return Ok(Some(Address::Unix(first.as_bytes().to_vec())));
    }
    if unix {
        return Err(format!("{first:?} is no path; it has no slash"));
    }
    if let Ok(port) = first.parse() {
        return Ok(Some(Address::Loopback(port)));
    }
    let port = |part: Option<&str>| {
        let part = part.ok_or_else(|| format!("no port behind {first:?}"))?;
        part.parse().map_err(|_| format!("{part:?} is no port"))
    };
    let ip: IpAddr = match first {
        "localhost" => return Ok(Some(Address::Loopback(port(parts.next())?))),
        "*" => Ipv4Addr::UNSPECIFIED.into(),
        _ => {
            let literal = first.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(first);
            literal.parse().map_err(|_| format!("{first:?} is no port, address or path"))?
        }
    };
    Ok(Some(Address::Tcp(SocketAddr::new(ip, port(parts.next())?))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp(text: &str) -> Address {
        Address::Tcp(text.parse().unwrap())
    }

    fn unix(path: &str) -> Address {
        Address::Unix(path.into())
    }

    #[test]
    fn both_ends_are_ports_addresses_or_paths() {
        for (text, from, to) in [
            ("8080", Address::Loopback(8080), Address::Loopback(8080)),
            ("8080:80", Address::Loopback(8080), Address::Loopback(80)),
            ("0:80", Address::Loopback(0), Address::Loopback(80)),
            ("0.0.0.0:8080:80", tcp("0.0.0.0:8080"), Address::Loopback(80)),
            ("*:8080:80", tcp("0.0.0.0:8080"), Address::Loopback(80)),
            ("[::1]:8080:80", tcp("[::1]:8080"), Address::Loopback(80)),
            ("8080:10.0.2.15:80", Address::Loopback(8080), tcp("10.0.2.15:80")),
            ("127.0.0.1:1:[fd00::2]:2", tcp("127.0.0.1:1"), tcp("[fd00::2]:2")),
            ("localhost:1:localhost:2", Address::Loopback(1), Address::Loopback(2)),
            ("unix:/a.sock:/b.sock", unix("/a.sock"), unix("/b.sock")),
            ("./a.sock:/b.sock", unix("./a.sock"), unix("/b.sock")),
            ("8080:/run/docker.sock", Address::Loopback(8080), unix("/run/docker.sock")),
            ("8080:unix:/run/docker.sock", Address::Loopback(8080), unix("/run/docker.sock")),
        ] {
            assert_eq!(parse_outward(text), Ok(Route { from, to }), "{text}");
        }
    }

    #[test]
    fn what_is_no_route_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "\"\" is no port, address or path"),
            ("80:", "\"\" is no port, address or path"),
            ("70000", "\"70000\" is no port, address or path"),
            ("0.0.0.0:80", "nothing to connect to"),
            ("/a.sock", "nothing to connect to"),
            ("0.0.0.0", "no port behind"),
            ("1:2:3", "\"3\" belongs to neither end"),
            ("1:0", "not connected to"),
            ("unix:80:80", "it has no slash"),
            ("1:./b.sock", "absolute"),
            ("::1:80", "no port, address or path"),
        ] {
            let error = parse_outward(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn the_guest_s_path_is_the_one_that_has_to_be_absolute() {
        assert!(parse_inward("/guest.sock:./host.sock").is_ok());
        assert!(parse_inward("./guest.sock:/host.sock").unwrap_err().contains("absolute"));
    }

    proptest! {
        #[test]
        fn any_text_is_a_route_or_an_error(text in "[0-9a-z:/.*\\[\\]é]{0,30}") {
            let _ = parse_outward(&text);
        }

        #[test]
        fn a_route_as_it_is_shown_can_be_typed(from in 1..u16::MAX, to: (std::net::IpAddr, u16)) {
            let route = Route { from: Address::Loopback(from), to: Address::Tcp(SocketAddr::new(to.0, to.1.max(1))) };
            prop_assert_eq!(parse_outward(&format!("{}:{}", route.from, route.to)), Ok(route));
        }
    }
}
