//! Memory. Source: `proc_meminfo(5)`.

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::stats::Memory;

use super::unreadable;
use crate::system_file;

const MEMINFO: &str = "/proc/meminfo";

pub(super) fn read() -> Result<Memory, AgentError> {
    parse(&system_file::read(MEMINFO)?).ok_or_else(|| unreadable(MEMINFO))
}

fn parse(text: &str) -> Option<Memory> {
    let cached = ["Buffers", "Cached", "SReclaimable"].iter().filter_map(|name| bytes(text, name)).sum();
    Some(Memory {
        total: bytes(text, "MemTotal")?,
        available: bytes(text, "MemAvailable")?,
        free: bytes(text, "MemFree")?,
        cached,
        // A kernel without swap has no such lines.
        swap_total: bytes(text, "SwapTotal").unwrap_or(0),
        swap_free: bytes(text, "SwapFree").unwrap_or(0),
    })
}

/// The value of the line `NAME:   N kB`, in which a kB is 1024 bytes.
fn bytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kilobytes_become_bytes_and_names_are_whole() {
        let text = "MemTotal:  1000 kB\nMemFree:    100 kB\nMemAvailable: 600 kB\nBuffers: 1 kB\nCached: 20 kB\n\
                    SwapCached: 7000 kB\nSReclaimable: 300 kB\nSwapTotal: 50 kB\nSwapFree: 40 kB\n";
        let memory = parse(text).unwrap();
        assert_eq!((memory.total, memory.available, memory.free), (1_024_000, 614_400, 102_400));
        assert_eq!(memory.cached, 321 * 1024);
        assert_eq!((memory.swap_total, memory.swap_free), (51_200, 40_960));
        assert_eq!(memory.used(), 409_600);
    }

    #[test]
    fn a_text_without_a_total_is_refused() {
        assert_eq!(parse("MemFree: 1 kB\nMemAvailable: 1 kB\n"), None);
        assert_eq!(parse("MemTotal: lots\nMemFree: 1 kB\nMemAvailable: 1 kB\n"), None);
    }
}
