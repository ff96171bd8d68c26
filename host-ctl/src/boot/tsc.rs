//! The rate of the host's time-stamp counter, which QEMU's emulation shows to the guest as its own.
//!
//! A guest that has to measure the rate itself does so against an emulated timer, in loops that a busy host interrupts.
//! It then gets the rate wrong by a factor, and with it its clock; or it gives up, and a microvm, which has neither HPET
//! nor PM timer and whose ACPI tables leave the PIT without an interrupt, stands still for ever before its first process.
//! So it is told, by `tsc_early_khz=`. Source: `kernel-parameters.txt`, and `pit_calibrate_tsc` in
//! `arch/x86/kernel/tsc.c`.

use nix::time::{ClockId, clock_gettime};
use tokio::time::{Duration, sleep};

use crate::sys;

/// How long the rate is measured at least. The two looks at the clock are off by some 100 ns: ten parts in a million.
const SPAN: Duration = Duration::from_millis(10);

/// How often one look is repeated; the quickest counts, because nothing came between its two clocks.
const LOOKS: u32 = 5;

/// Both clocks at one instant.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    ticks: u64,
    at: Duration,
}

impl Sample {
    /// Looks at both clocks; `None` where the counter's rate is not constant.
    #[must_use]
    pub fn now() -> Option<Sample> {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").ok()?;
        let constant = ["constant_tsc", "nonstop_tsc"];
        if !constant.iter().all(|flag| cpuinfo.split_whitespace().any(|word| word == *flag)) {
            return None;
        }
        (0..LOOKS).filter_map(|_| look()).min_by_key(|(_, took)| *took).map(|(sample, _)| sample)
    }

    /// The counter's rate in kHz, measured from here until now; waits if that is too short a time.
    pub async fn khz(self) -> Option<u64> {
        let since = clock()?.saturating_sub(self.at);
        sleep(SPAN.saturating_sub(since)).await;
        rate(self, Sample::now()?)
    }
}

fn rate(from: Sample, to: Sample) -> Option<u64> {
    let ticks = u128::from(to.ticks.checked_sub(from.ticks)?);
    let nanoseconds = to.at.checked_sub(from.at)?.as_nanos();
    u64::try_from((ticks * 1_000_000).checked_div(nanoseconds)?).ok().filter(|khz| *khz > 0)
}

fn look() -> Option<(Sample, Duration)> {
    let at = clock()?;
    let ticks = sys::time_stamp_counter();
    let took = clock()?.saturating_sub(at);
    Some((Sample { ticks, at: at + took / 2 }, took))
}

/// Not steered by time synchronization, as the counter is not.
fn clock() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_MONOTONIC_RAW).ok().map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_ticks_by_milliseconds() {
        let from = Sample { ticks: 1_000, at: Duration::from_millis(5) };
        let to = Sample { ticks: 26_001_000, at: Duration::from_millis(15) };
        assert_eq!(rate(from, to), Some(2_600_000));
        assert_eq!(rate(to, from), None);
        assert_eq!(rate(from, from), None);
    }

    #[tokio::test]
    async fn two_measurements_of_this_host_agree() {
        let Some(sample) = Sample::now() else { return };
        let first = sample.khz().await.unwrap();
        let second = sample.khz().await.unwrap();
        assert!(first.abs_diff(second) < first / 1_000, "{first} and {second} kHz");
    }
}
