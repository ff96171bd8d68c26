//! Time as the whole project counts it: since the guest's kernel started.

use std::io;
use std::time::Duration;

use firstlight_protocol::message::error::AgentError;
use nix::time::{ClockId, clock_gettime};

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
