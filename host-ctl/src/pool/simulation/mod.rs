//! The policy against simulated VMs under virtual time: thousands of VMs and hours of load in seconds, always the same
//! for the same seed.
//!
//! The world here keeps its own account of what is so (which VMs exist, who holds which, which are clean) and notes
//! every rule of the pool that is broken, whatever the policy thinks of itself.

mod truth;
mod world;

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::policy::{Bounds, Counts, Moment};

pub use self::world::run;

/// What a simulated pool goes through.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The pool.
    pub bounds: Bounds,
    /// The random numbers of it.
    pub seed: u64,
    /// How long callers come.
    pub duration: Duration,
    /// Time between two callers on average; they come independently of each other.
    pub between_callers: Duration,
    /// Now and then so many come at once.
    pub burst: u32,
    /// How long a VM is kept on average.
    pub hold: Duration,
    /// How long callers wait at most.
    pub patience: Duration,
    /// How long each kind of work takes.
    pub work: WorkTimes,
    /// Failing makes, resets and proofs in a thousand.
    pub failures: u32,
    /// Holders in a thousand that never give their VM back.
    pub crashes: u32,
}

/// How long work takes: up to half as long again, and in a slow spell of the disk ten times as long.
#[derive(Debug, Clone, Copy)]
pub struct WorkTimes {
    /// Making a VM.
    pub make: Duration,
    /// Resetting one.
    pub reset: Duration,
    /// A round trip to its agent.
    pub check: Duration,
    /// Destroying one.
    pub destroy: Duration,
    /// Work in a thousand that meets a slow disk.
    pub slow: u32,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How long each caller that got a VM waited, shortest first.
    pub waits: Vec<Duration>,
    /// The policy's own counts.
    pub counts: Counts,
    /// Most VMs at a time.
    pub most_vms: usize,
    /// Rules that were broken, in words. Empty: none.
    pub broken: Vec<String>,
    /// When the last VM was gone after the drain at the end.
    pub drained_at: Moment,
}

impl Outcome {
    /// The wait that so many in a thousand did not exceed; zero when nobody got a VM.
    #[must_use]
    pub fn wait(&self, per_thousand: usize) -> Duration {
        let last = self.waits.len().saturating_sub(1);
        self.waits.get(last * per_thousand / 1_000).copied().unwrap_or_default()
    }
}

impl WorkTimes {
    /// What was measured of emulated VMs: a cold boot, a restore from a golden snapshot, a round trip.
    #[must_use]
    pub fn emulated() -> WorkTimes {
        let ms = Duration::from_millis;
        WorkTimes { make: ms(1_500), reset: ms(400), check: ms(5), destroy: ms(100), slow: 20 }
    }
}
