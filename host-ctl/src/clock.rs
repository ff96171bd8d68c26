//! The two clocks a record carries.
//!
//! Wall time is for people and may step; durations come from `CLOCK_BOOTTIME`, which only goes forward and counts
//! suspended time too. It starts anew with the host, so it is comparable only under one [`host_boot_id`].

use std::io;

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One instant on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// Nanoseconds since 1970 (`CLOCK_REALTIME`).
    pub wall_ns: u64,
    /// Nanoseconds since the host started (`CLOCK_BOOTTIME`).
    pub boot_ns: u64,
}

impl Stamp {
    /// This instant.
    #[must_use]
    pub fn now() -> Stamp {
        Stamp { wall_ns: read(ClockId::CLOCK_REALTIME), boot_ns: read(ClockId::CLOCK_BOOTTIME) }
    }

    /// Milliseconds from `earlier` to this instant; zero when it is not earlier.
    #[must_use]
    pub fn ms_since(&self, earlier: &Stamp) -> f64 {
        ms(self.boot_ns.saturating_sub(earlier.boot_ns))
    }
}

/// Nanoseconds as milliseconds, to the microsecond.
#[must_use]
pub fn ms(nanoseconds: u64) -> f64 {
    // Microseconds fit the 53 bits of an f64 for 285 years.
    #[allow(clippy::cast_precision_loss, reason = "see above")]
    let micros = (nanoseconds / 1_000) as f64;
    micros / 1_000.0
}

/// Nanoseconds since 1970 as RFC 3339 in UTC, to the nanosecond: `2026-01-31T09:05:00.000000001Z`.
#[must_use]
pub fn rfc3339(wall_ns: u64) -> String {
    let (seconds, nanos) = (wall_ns / 1_000_000_000, wall_ns % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// The date that is `days` after 1970-01-01, counted in years that begin in March so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    let since_march_0000 = days + 719_468;
    let (era, day_of_era) = (since_march_0000 / DAYS_PER_ERA, since_march_0000 % DAYS_PER_ERA);
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / (DAYS_PER_ERA - 1);
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let (month, carry) = if march_month < 10 { (march_month + 3, 0) } else { (march_month - 9, 1) };
    (era * 400 + year_of_era + carry, month, day)
}

fn read(clock: ClockId) -> u64 {
    // Neither clock can fail on Linux, and neither is before its own zero.
    let time = clock_gettime(clock).map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Names this boot of the host. Source: `random(4)`, `/proc/sys/kernel/random/boot_id`.
///
/// # Errors
/// The file cannot be read.
pub fn host_boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_date_1() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_709_251_200, "2024-03-01T00:00:00"),
            (4_102_444_800, "2100-01-01T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(rfc3339(seconds * 1_000_000_000 + 7), format!("{text}.000000007Z"));
        }
    }

    #[test]
    fn a_wall_clock_that_steps_back_does_not_change_a_duration() {
        let earlier = Stamp { wall_ns: 7_200_000_000_000, boot_ns: 1_000_000_000 };
        let later = Stamp { wall_ns: 3_600_000_000_000, boot_ns: 1_002_500_000 };
        assert!((later.ms_since(&earlier) - 2.5).abs() < f64::EPSILON);
        assert!(earlier.ms_since(&later).abs() < f64::EPSILON);
    }
}
