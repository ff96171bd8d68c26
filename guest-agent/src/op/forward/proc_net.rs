//! `/proc/net/tcp` and `tcp6`: who listens. Source: `proc_net(5)` and the kernel's `net/ipv4/tcp_ipv4.c`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const FILES: &[&str] = &["/proc/net/tcp", "/proc/net/tcp6"];

/// `TCP_LISTEN` in the kernel's `include/net/tcp_states.h`, as the files show it.
const LISTEN: &str = "0A";

/// A listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    pub(super) inode: u64,
}

/// Everything that listens in the agent's network namespace.
pub(super) fn listening() -> io::Result<Vec<Listening>> {
    let mut found = Vec::new();
    for file in FILES {
        match File::open(file) {
            Ok(file) => collect(BufReader::new(file), &mut found)?,
            // A kernel without IPv6 has no `tcp6`.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Reads up to the first socket that does not listen: the kernel lists all that do before any other, so ten thousand
/// connections cost nothing.
fn collect(file: impl BufRead, found: &mut Vec<Listening>) -> io::Result<()> {
    for line in file.lines().skip(1) {
        match parse(&line?) {
            Some(listening) => found.push(listening),
            None => break,
        }
    }
    Ok(())
}

/// One line, if its socket listens.
fn parse(line: &str) -> Option<Listening> {
    // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode ...
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    (state == LISTEN).then_some(Listening { address: address(local)?, inode })
}

/// `0100007F:1F90`: the address as 32-bit words of the machine's own byte order, the port as a number.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |index: usize| {
        let digits = ip.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADING: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";

    fn line(local: &str, state: &str) -> String {
        format!(
            "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0"
        )
    }

    fn collected(lines: &[String]) -> Vec<String> {
        let file = [&[HEADING.to_owned()], lines].concat().join("\n");
        let mut found = Vec::new();
        collect(file.as_bytes(), &mut found).unwrap();
        found.iter().map(|listening| listening.address.to_string()).collect()
    }

    #[test]
    fn listening_sockets_are_read_up_to_the_first_that_is_connected() {
        let lines = [
            line("0100007F:1F90", "0A"),
            line("00000000:0016", "0A"),
            line("0100007F:1F90", "01"),
            line("0F02000A:0050", "0A"),
        ];
        assert_eq!(collected(&lines), ["127.0.0.1:8080", "0.0.0.0:22"]);
    }

    #[test]
    fn ipv6_addresses_are_four_words() {
        let lines = [
            line("00000000000000000000000001000000:0BB8", "0A"),
            line("000080FE00000000FF005450FEFF1234:0050", "0A"),
        ];
        assert_eq!(collected(&lines), ["[::1]:3000", "[fe80::5054:ff:3412:fffe]:80"]);
    }

    #[test]
    fn this_machine_s_own_listener_is_found_with_its_inode() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, inode) =
            (listener.local_addr().unwrap(), nix::sys::stat::fstat(&listener).unwrap().st_ino);
        assert!(listening().unwrap().contains(&Listening { address, inode }));
        drop(listener);
        assert!(!listening().unwrap().contains(&Listening { address, inode }));
    }

    proptest! {
        #[test]
        fn any_line_is_a_listener_or_none(line: String) {
            let _ = parse(&line);
        }

        #[test]
        fn any_address_is_an_address_or_none(text in "[0-9A-Fa-f:é]{0,45}") {
            let _ = address(&text);
        }
    }
}
