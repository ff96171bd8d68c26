//! What a guest uses per second: the difference of two of its counts.

use std::time::Duration;

use firstlight_protocol::message::stats::Stats;
use serde::Serialize;

/// Rates between two counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// Over how long they were taken.
    pub interval_ms: f64,
    /// Processor time used, in per cent of one processor: two that are busy are 200.
    pub cpu_percent: f64,
    /// The program's own share of that, where it is counted.
    pub program_cpu_percent: Option<f64>,
    /// Bytes per second from the network.
    pub received_per_second: f64,
    /// Bytes per second to the network.
    pub sent_per_second: f64,
    /// Bytes per second from disks.
    pub read_per_second: f64,
    /// Bytes per second to disks.
    pub written_per_second: f64,
}

impl Rates {
    /// The rates from `before` to `after`, or `None` when they are not two counts of one boot in this order.
    #[must_use]
    pub fn between(before: &Stats, after: &Stats) -> Option<Rates> {
        let elapsed = after.at_ns.checked_sub(before.at_ns).filter(|elapsed| *elapsed > 0)?;
        let elapsed = Duration::from_nanos(elapsed);
        // A device that went took its count along: what is left is less, and no rate is negative.
        let per_second = |count: fn(&Stats) -> u64| {
            let grown = count(after).saturating_sub(count(before));
            approximate(grown) / elapsed.as_secs_f64()
        };
        let percent = |microseconds: f64| microseconds / 10_000.0;
        let program = before.program.is_some() && after.program.is_some();
        Some(Rates {
            interval_ms: elapsed.as_secs_f64() * 1000.0,
            cpu_percent: percent(per_second(|stats| stats.cpu.busy_us())),
            program_cpu_percent: program
                .then(|| percent(per_second(|stats| stats.program.map_or(0, |program| program.cpu_us)))),
            received_per_second: per_second(|stats| stats.links.iter().map(|link| link.received.bytes).sum()),
            sent_per_second: per_second(|stats| stats.links.iter().map(|link| link.sent.bytes).sum()),
            read_per_second: per_second(|stats| stats.disks.iter().map(|disk| disk.read_bytes).sum()),
            written_per_second: per_second(|stats| stats.disks.iter().map(|disk| disk.written_bytes).sum()),
        })
    }
}

/// A count as a fraction; above 2^53 it is rounded.
#[allow(clippy::cast_precision_loss, reason = "a rate is for looking at")]
fn approximate(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use firstlight_protocol::message::stats::{Cpu, Link, Memory, Program, Traffic};

    use super::*;

    fn stats(at_ms: u64, busy_us: u64, received: u64) -> Stats {
        let traffic = |bytes| Traffic { bytes, ..Traffic::default() };
        Stats {
            at_ns: at_ms * 1_000_000,
            cpu: Cpu { count: 2, user_us: busy_us, ..Cpu::default() },
            memory: Memory::default(),
            tasks: 1,
            disks: Vec::new(),
            filesystems: Vec::new(),
            links: vec![Link { name: "eth0".into(), received: traffic(received), sent: traffic(0) }],
            pressure: None,
            program: None,
        }
    }

    #[track_caller]
    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn a_rate_is_what_grew_per_second() {
        let rates = Rates::between(&stats(1000, 0, 500), &stats(1500, 750_000, 2500)).unwrap();
        assert_close(rates.interval_ms, 500.0);
        assert_close(rates.cpu_percent, 150.0);
        assert_close(rates.received_per_second, 4000.0);
        assert_eq!(rates.program_cpu_percent, None);
    }

    #[test]
    fn a_device_that_went_makes_no_negative_rate() {
        let mut after = stats(2000, 0, 0);
        after.links.clear();
        assert_close(Rates::between(&stats(1000, 0, 500), &after).unwrap().received_per_second, 0.0);
    }

    #[test]
    fn the_program_has_a_share_once_it_is_counted_twice() {
        let with = |cpu_us| Some(Program { cpu_us, ..Program::default() });
        let (mut before, mut after) = (stats(0, 0, 0), stats(1000, 0, 0));
        after.program = with(100_000);
        assert_eq!(Rates::between(&before, &after).unwrap().program_cpu_percent, None);
        before.program = with(0);
        assert_close(Rates::between(&before, &after).unwrap().program_cpu_percent.unwrap(), 10.0);
    }

    #[test]
    fn counts_of_two_boots_have_no_rates() {
        assert_eq!(Rates::between(&stats(5000, 9, 9), &stats(100, 0, 0)), None);
        assert_eq!(Rates::between(&stats(100, 0, 0), &stats(100, 0, 0)), None);
    }
}
