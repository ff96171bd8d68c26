//! Block devices. Source: the kernel's `Documentation/admin-guide/iostats.rst`.

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::stats::{Disk, MAX_ENTRIES};

use crate::system_file;

const DISKSTATS: &str = "/proc/diskstats";

/// A sector in this file has 512 bytes, whatever the device's own have.
const SECTOR: u64 = 512;

/// A kernel without block devices has no such file.
pub(super) fn read() -> Result<Vec<Disk>, AgentError> {
    Ok(parse(&system_file::read_optional(DISKSTATS)?.unwrap_or_default()))
}

fn parse(text: &str) -> Vec<Disk> {
    text.lines().filter_map(parse_line).take(MAX_ENTRIES).collect()
}

/// A line is major, minor, name, then reads, merged, sectors, ms; writes, merged, sectors, ms; in flight, ms busy.
fn parse_line(line: &str) -> Option<Disk> {
    let mut fields = line.split_whitespace().skip(2);
    let name = fields.next().filter(|name| !is_virtual(name))?;
    let counts: Vec<u64> = fields.map_while(|count| count.parse().ok()).collect();
    let [reads, _, sectors_read, _, writes, _, sectors_written, _, _, busy_ms, ..] = counts[..] else {
        return None;
    };
    Some(Disk {
        name: name.to_owned(),
        reads,
        read_bytes: sectors_read.saturating_mul(SECTOR),
        writes,
        written_bytes: sectors_written.saturating_mul(SECTOR),
        busy_ms,
    })
}

/// What is no disk: its bytes would be counted twice, or are memory.
fn is_virtual(name: &str) -> bool {
    ["loop", "ram", "zram"].iter().any(|prefix| {
        let rest = name.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_become_bytes_and_loop_devices_stay_out() {
        let text = "   7       0 loop0 9 0 9 9 0 0 0 0 0 9 9 0 0 0 0 0 0\n \
                    254       0 vda 10 1 80 5 20 2 160 6 0 77 11 0 0 0 0 0 0\n \
                    254      16 vdb 1 0 8 0 0 0 0 0 0 1 1\n";
        let disks = parse(text);
        let vda = Disk {
            name: "vda".into(),
            reads: 10,
            read_bytes: 40_960,
            writes: 20,
            written_bytes: 81_920,
            busy_ms: 77,
        };
        assert_eq!(disks[0], vda);
        assert_eq!(disks.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(), ["vda", "vdb"]);
    }

    #[test]
    fn a_short_line_is_left_out_and_a_long_list_is_cut() {
        assert_eq!(parse("254 0 vda 1 2 3\n"), []);
        let many: String = (0..1000).map(|n| format!("1 {n} disk{n} 1 1 1 1 1 1 1 1 1 1 1\n")).collect();
        assert_eq!(parse(&many).len(), MAX_ENTRIES);
    }
}
