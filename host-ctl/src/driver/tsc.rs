//! The frequency of the host's time-stamp counter, for guests that cannot find it out.
//!
//! Under emulation QEMU gives the guest the host's own counter. A `microvm` has neither HPET nor PM timer, and its
//! ACPI tables leave the PIT without an interrupt, so a Linux guest has to measure the counter against the PIT's
//! port. On a busy host it is disturbed each time, gives up, has no timer left and stands still for ever before its
//! first process. The kernel parameter `tsc_early_khz=` makes it take our word instead. Source:
//! `kernel-parameters.txt`, and `pit_calibrate_tsc` in `arch/x86/kernel/tsc.c`.

use std::time::{Duration, Instant};

/// How long the counter is watched. A reading is right to some 100 ns, so this is right to 10 parts per million.
const WATCHED: Duration = Duration::from_millis(10);

/// Readings at each end, of which the least disturbed counts.
const READINGS: usize = 8;

/// The counter and the clock at one instant.
struct Reading {
    counter: u64,
    clock: Instant,
    /// How many ticks the two looks at the counter around the look at the clock were apart.
    doubt: u64,
}

/// The counter's frequency in kHz; `None` on a processor without one. Takes 10 ms.
#[must_use]
pub fn khz() -> Option<u64> {
    let first = best_reading()?;
    while first.clock.elapsed() < WATCHED {
        std::hint::spin_loop();
    }
    let last = best_reading()?;
    frequency(last.counter.checked_sub(first.counter)?, last.clock.duration_since(first.clock))
}

fn best_reading() -> Option<Reading> {
    (0..READINGS).filter_map(|_| reading()).min_by_key(|reading| reading.doubt)
}

fn reading() -> Option<Reading> {
    let before = crate::sys::time_stamp_counter()?;
    let clock = Instant::now();
    let after = crate::sys::time_stamp_counter()?;
    let doubt = after.checked_sub(before)?;
    Some(Reading { counter: before + doubt / 2, clock, doubt })
}

fn frequency(ticks: u64, time: Duration) -> Option<u64> {
    let khz = u128::from(ticks) * 1_000_000 / time.as_nanos().max(1);
    u64::try_from(khz).ok().filter(|khz| *khz > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_over_time_are_kilohertz() {
        assert_eq!(frequency(26_000_000, Duration::from_millis(10)), Some(2_600_000));
        assert_eq!(frequency(0, Duration::from_millis(10)), None);
    }

    #[test]
    fn two_measurements_agree() {
        let (Some(one), Some(other)) = (khz(), khz()) else { return };
        assert!(one.abs_diff(other) * 100 < one, "{one} and {other} kHz");
    }
}
