//! Network links. Source: `proc_pid_net(5)`, `/proc/net/dev`.

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::stats::{Link, MAX_ENTRIES, Traffic};

use crate::system_file;

const DEV: &str = "/proc/net/dev";
const LOOPBACK: &str = "lo";

/// Columns of each direction.
const COLUMNS: usize = 8;

/// A kernel without a network has no such file.
pub(super) fn read() -> Result<Vec<Link>, AgentError> {
    Ok(parse(&system_file::read_optional(DEV)?.unwrap_or_default()))
}

fn parse(text: &str) -> Vec<Link> {
    text.lines().filter_map(parse_line).take(MAX_ENTRIES).collect()
}

/// A name may end in digits right before the colon, and its counters may follow without a blank.
fn parse_line(line: &str) -> Option<Link> {
    let (name, counts) = line.split_once(':')?;
    let name = name.trim();
    let counts: Vec<u64> = counts.split_whitespace().map_while(|count| count.parse().ok()).collect();
    let received = traffic(counts.get(..COLUMNS)?)?;
    let sent = traffic(counts.get(COLUMNS..)?)?;
    (name != LOOPBACK).then(|| Link { name: name.to_owned(), received, sent })
}

fn traffic(counts: &[u64]) -> Option<Traffic> {
    let [bytes, packets, errors, dropped, ..] = *counts else { return None };
    Some(Traffic { bytes, packets, errors, dropped })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Inter-|   Receive                            |  Transmit\n \
                        face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs\n    \
                        lo: 3 3 0 0 0 0 0 0 3 3 0 0 0 0 0 0\n  \
                        eth0:1000 10 1 2 0 0 0 0 2000 20 3 4 0 0 0 0\n";

    #[test]
    fn both_directions_are_told_apart_and_the_loopback_stays_out() {
        let received = Traffic { bytes: 1000, packets: 10, errors: 1, dropped: 2 };
        let sent = Traffic { bytes: 2000, packets: 20, errors: 3, dropped: 4 };
        assert_eq!(parse(TEXT), [Link { name: "eth0".into(), received, sent }]);
    }

    #[test]
    fn half_a_line_is_no_link() {
        assert_eq!(parse("eth0: 1 2 3 4 5 6 7 8 9\n"), []);
    }
}
