//! What can be set about a pool.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::pool::millis;

/// Most VMs of a pool: each has a directory, a monitor and a VMM, and no host has room for more.
pub const MAX_VMS: usize = 10_000;

/// Most callers that wait; one more is refused at once.
pub const MAX_WAITERS: usize = 65_536;

/// The numbers a pool keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// VMs kept ready ahead of demand.
    pub min: usize,
    /// VMs in all, those being made, reset and destroyed included.
    pub max: usize,
    /// VMs made, reset and destroyed at a time.
    pub parallel: usize,
    /// Callers in line.
    pub waiters: usize,
    /// Longest lease; a longer wish is cut to it.
    #[serde(rename = "max_ttl_ms", with = "millis")]
    pub max_ttl: Duration,
    /// Holders a VM serves before it is replaced; 0 is no limit.
    pub max_uses: u32,
    /// Age after which a VM is handed out no more and replaced. Each is replaced at a time of its own in the last
    /// quarter of it, so that VMs made together do not go together.
    #[serde(rename = "max_age_ms", with = "millis")]
    pub max_age: Duration,
    /// How long a VM beyond `min` stays ready before it is destroyed.
    #[serde(rename = "max_idle_ms", with = "millis")]
    pub max_idle: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            min: 1,
            max: 4,
            parallel: 2,
            waiters: 1024,
            max_ttl: Duration::from_hours(24),
            max_uses: 0,
            max_age: Duration::from_hours(24),
            max_idle: Duration::from_mins(5),
        }
    }
}

/// The numbers contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BoundsError {
    /// Out of range.
    #[error("{name} is {found}; it can be 1 to {most}")]
    Range {
        /// Which number.
        name: &'static str,
        /// What it is.
        found: usize,
        /// The most it can be.
        most: usize,
    },
    /// More ready than there may be.
    #[error("min is {min}, more than max, which is {max}")]
    MinOverMax {
        /// The one.
        min: usize,
        /// The other.
        max: usize,
    },
}

impl Bounds {
    /// Refuses numbers that make no pool.
    ///
    /// # Errors
    /// [`BoundsError`], which names the number.
    pub fn validate(self) -> Result<Bounds, BoundsError> {
        for (name, found, most) in [
            ("max", self.max, MAX_VMS),
            ("parallel", self.parallel, MAX_VMS),
            ("waiters", self.waiters, MAX_WAITERS),
        ] {
            if !(1..=most).contains(&found) {
                return Err(BoundsError::Range { name, found, most });
            }
        }
        if self.min > self.max {
            return Err(BoundsError::MinOverMax { min: self.min, max: self.max });
        }
        Ok(self)
    }
}
