//! One VM of the pool, and how many there are in each phase.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Bounds, Moment};

/// A VM of the pool, over all its resets. No other VM of the pool ever has the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One holder's time with one VM; `VM.USE` in text. As uses only grow, no two leases are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId {
    /// The VM.
    pub vm: MemberId,
    /// Which of its uses, from 1.
    pub uses: u32,
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.vm, self.uses)
    }
}

impl FromStr for LeaseId {
    type Err = String;

    fn from_str(text: &str) -> Result<LeaseId, String> {
        let parts = text.split_once('.').and_then(|(vm, uses)| Some((vm.parse().ok()?, uses.parse().ok()?)));
        let (vm, uses) = parts.ok_or_else(|| format!("{text:?} is no lease; one reads like 7.3"))?;
        Ok(LeaseId { vm: MemberId(vm), uses })
    }
}

/// What survives a crash of one VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The VM.
    pub vm: MemberId,
    /// When it was first made.
    pub made_at: Moment,
    /// Holders it has had.
    pub uses: u32,
    /// Where it is.
    pub phase: SavedPhase,
}

/// The phases as far as a restart tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SavedPhase {
    /// Being made, reset or destroyed: a restart destroys it, as nobody knows how far that had come.
    Doubtful,
    /// Proved, and used by nobody since.
    Ready,
    /// Somebody's until then.
    Leased {
        /// The end of the lease.
        until: Moment,
    },
    /// Given back, and not yet reset.
    Dirty,
}

/// Where a VM is; the pictures is in the module above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Making,
    Proving {
        after: Origin,
    },
    Ready {
        since: Moment,
    },
    Checking {
        since: Moment,
    },
    Leased {
        until: Moment,
    },
    Dirty,
    Resetting,
    /// `failures`: attempts to destroy it so far.
    Doomed {
        failures: u32,
    },
    Ending {
        failures: u32,
    },
}

/// What a proof is the end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Make,
    Reset,
}

impl Phase {
    pub(super) fn name(self) -> &'static str {
        match self {
            Phase::Making => "making",
            Phase::Proving { .. } => "proving",
            Phase::Ready { .. } => "ready",
            Phase::Checking { .. } => "checking",
            Phase::Leased { .. } => "leased",
            Phase::Dirty => "dirty",
            Phase::Resetting => "resetting",
            Phase::Doomed { .. } => "doomed",
            Phase::Ending { .. } => "ending",
        }
    }

    pub(super) fn saved(self) -> SavedPhase {
        match self {
            Phase::Making
            | Phase::Proving { .. }
            | Phase::Resetting
            | Phase::Doomed { .. }
            | Phase::Ending { .. } => SavedPhase::Doubtful,
            Phase::Ready { .. } | Phase::Checking { .. } => SavedPhase::Ready,
            Phase::Leased { until } => SavedPhase::Leased { until },
            Phase::Dirty => SavedPhase::Dirty,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) made_at: Moment,
    pub(super) uses: u32,
    pub(super) phase: Phase,
}

impl Member {
    /// When it is too old: in the last quarter of the greatest age, spread by its number so that VMs made together are
    /// not all replaced together.
    pub(super) fn retires_at(&self, vm: MemberId, bounds: &Bounds) -> Moment {
        // The fractional parts of multiples of the golden ratio lie evenly, whatever their count.
        let spread = vm.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
        let early = bounds.max_age / 4 / (1 << 16) * u32::try_from(spread).unwrap_or(0);
        self.made_at.saturating_add(bounds.max_age).saturating_sub(early)
    }

    pub(super) fn saved(&self, vm: MemberId) -> Saved {
        Saved { vm, made_at: self.made_at, uses: self.uses, phase: self.phase.saved() }
    }

    pub(super) fn age(&self, now: Moment) -> Duration {
        now.saturating_sub(self.made_at)
    }
}

/// How many VMs are in each phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Census {
    pub(super) making: usize,
    /// Those just made; a part of `making` as far as places go.
    pub(super) proving_made: usize,
    pub(super) proving_reset: usize,
    pub(super) checking: usize,
    pub(super) resetting: usize,
    pub(super) ending: usize,
}

impl Census {
    /// Changes the number of VMs in `phase`. The phases with a queue of their own are counted there.
    pub(super) fn count(&mut self, phase: Phase, change: impl Fn(usize) -> usize) {
        let number = match phase {
            Phase::Making => &mut self.making,
            Phase::Proving { after: Origin::Make } => &mut self.proving_made,
            Phase::Proving { after: Origin::Reset } => &mut self.proving_reset,
            Phase::Checking { .. } => &mut self.checking,
            Phase::Resetting => &mut self.resetting,
            Phase::Ending { .. } => &mut self.ending,
            Phase::Ready { .. } | Phase::Leased { .. } | Phase::Dirty | Phase::Doomed { .. } => return,
        };
        *number = change(*number);
    }

    /// Places of `parallel` that are taken.
    pub(super) fn busy(&self) -> usize {
        self.makes() + self.resets() + self.ending
    }

    /// VMs being made, up to their proof.
    pub(super) fn makes(&self) -> usize {
        self.making + self.proving_made
    }

    /// VMs being reset, up to their proof.
    pub(super) fn resets(&self) -> usize {
        self.resetting + self.proving_reset
    }
}
