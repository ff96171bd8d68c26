//! Time as the whole project counts it, since the guest's kernel started; and the wall clock.

use std::io;
use std::time::Duration;

use firstlight_protocol::message::error::AgentError;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

use crate::failure;

/// Nanoseconds of `CLOCK_BOOTTIME`.
///
/// # Errors
/// As `clock_gettime(2)`.
pub fn boottime_ns() -> Result<u64, AgentError> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_err(io::Error::from);
    let now = now.map_err(|error| failure::system("read CLOCK_BOOTTIME", None, &error))?;
    Ok(nanoseconds(Duration::from(now)))
}

/// Sets the wall clock, in nanoseconds since 1970.
///
/// # Errors
/// As `clock_settime(2)`.
pub fn set(wall_ns: u64) -> Result<(), AgentError> {
    let time = TimeSpec::from_duration(Duration::from_nanos(wall_ns));
    let set = clock_settime(ClockId::CLOCK_REALTIME, time).map_err(io::Error::from);
    set.map_err(|error| failure::system("set the clock", None, &error))
}

/// A duration in nanoseconds, which fit for 584 years.
#[must_use]
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration in microseconds.
#[must_use]
pub fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
