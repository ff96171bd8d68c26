//! What a pool says of itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::member::{LeaseId, Phase};
use super::trouble::Trouble;
use super::{Bounds, Job, MemberId, Moment, Policy};
use crate::pool::millis;

/// What happened since the pool's process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// VMs made and proved.
    pub made: u64,
    /// VMs that could not be made, or proved after it.
    pub make_failed: u64,
    /// VMs reset and proved clean.
    pub reset: u64,
    /// VMs that could not be reset, or proved after it.
    pub reset_failed: u64,
    /// VMs that did not answer when somebody was to get them.
    pub check_failed: u64,
    /// VMs destroyed.
    pub destroyed: u64,
    /// Attempts to destroy one that failed.
    pub destroy_failed: u64,
    /// VMs handed out.
    pub granted: u64,
    /// How long those who got one waited, added up.
    #[serde(rename = "waited_ms", with = "millis")]
    pub waited: Duration,
    /// Callers whose deadline passed.
    pub timed_out: u64,
    /// Callers refused at once.
    pub refused: u64,
    /// Callers that gave up.
    pub cancelled: u64,
    /// Leases given back.
    pub released: u64,
    /// Leases renewed.
    pub renewed: u64,
    /// Leases that expired.
    pub expired: u64,
}

/// A pool at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The numbers it keeps to.
    pub bounds: Bounds,
    /// How many VMs are in each phase. Every phase is there.
    pub phases: BTreeMap<String, usize>,
    /// Callers in line.
    pub waiting: usize,
    /// Whether it is being drained.
    pub draining: bool,
    /// What fails again and again. Empty: the pool is well.
    pub degraded: Vec<TroubleStatus>,
    /// What happened so far.
    pub counts: Counts,
    /// Its VMs.
    pub members: Vec<MemberStatus>,
}

/// Work that fails again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroubleStatus {
    /// `make`, `reset` or `destroy`; a proof that fails counts for what it follows.
    pub job: Job,
    /// Failures in a row.
    pub failures: u32,
    /// How long until the next try.
    #[serde(rename = "retry_in_ms", with = "millis")]
    pub retry_in: Duration,
}

/// One VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Which.
    pub vm: MemberId,
    /// Its phase, by name.
    pub phase: String,
    /// How long ago it was first made.
    #[serde(rename = "age_ms", with = "millis")]
    pub age: Duration,
    /// Holders it has had.
    pub uses: u32,
    /// Its holder's lease.
    pub lease: Option<String>,
    /// How long the lease lasts, in ms.
    pub expires_in_ms: Option<u64>,
}

/// Every phase's name, so that one without a VM shows as zero and not as a gap.
const PHASES: [&str; 9] =
    ["making", "proving", "ready", "checking", "leased", "dirty", "resetting", "doomed", "ending"];

impl Policy {
    /// The pool as it is.
    #[must_use]
    pub fn status(&self, now: Moment) -> Status {
        let mut phases: BTreeMap<String, usize> = PHASES.map(|name| (name.to_owned(), 0)).into();
        for member in self.members.values() {
            *phases.entry(member.phase.name().to_owned()).or_default() += 1;
        }
        let degraded = self.troubles().map(|(job, trouble)| TroubleStatus {
            job,
            failures: trouble.failures,
            retry_in: trouble.retry_at.saturating_sub(now),
        });
        Status {
            bounds: self.bounds,
            phases,
            waiting: self.line.len(),
            draining: self.draining,
            degraded: degraded.collect(),
            counts: self.counts,
            members: self.members.keys().map(|vm| self.member_status(*vm, now)).collect(),
        }
    }

    /// What fails again and again.
    #[must_use]
    pub fn degraded(&self) -> Vec<Job> {
        self.troubles().map(|(job, _)| job).collect()
    }

    fn troubles(&self) -> impl Iterator<Item = (Job, &Trouble)> {
        let all = [(Job::Make, &self.making), (Job::Reset, &self.resetting), (Job::Destroy, &self.ending)];
        all.into_iter().filter(|(_, trouble)| trouble.is_degraded())
    }

    fn member_status(&self, vm: MemberId, now: Moment) -> MemberStatus {
        let member = &self.members[&vm];
        let until = if let Phase::Leased { until } = member.phase { Some(until) } else { None };
        MemberStatus {
            vm,
            phase: member.phase.name().to_owned(),
            age: member.age(now),
            uses: member.uses,
            lease: until.map(|_| LeaseId { vm, uses: member.uses }.to_string()),
            expires_in_ms: until.map(|until| millis::of(until.saturating_sub(now))),
        }
    }
}
