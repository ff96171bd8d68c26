//! A pool that goes on after its process ended, however that ended.

use std::collections::BTreeMap;

use super::agenda::Alarm;
use super::member::{Member, Phase, Saved, SavedPhase};
use super::{Bounds, Effect, Entry, Job, MemberId, Moment, Policy};

/// What is known of a pool from its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The number the next VM gets: numbers are never given twice.
    pub next: MemberId,
    /// Its VMs.
    pub members: BTreeMap<MemberId, Saved>,
}

impl Default for Known {
    fn default() -> Known {
        Known { next: MemberId(1), members: BTreeMap::new() }
    }
}

impl Known {
    /// Adds the next record.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Vm(saved) => {
                self.next = self.next.max(MemberId(saved.vm.0 + 1));
                self.members.insert(saved.vm, *saved);
            }
            Entry::Gone { vm } => drop(self.members.remove(vm)),
        }
    }

    /// The host was booted since: no VM runs, no lease is worth anything, and times of the old boot mean nothing.
    pub fn after_host_boot(&mut self) {
        for saved in self.members.values_mut() {
            (saved.phase, saved.made_at) = (SavedPhase::Doubtful, Moment::ZERO);
        }
    }
}

impl Policy {
    /// A pool that takes over what `known` says: VMs that were ready are checked again, leases hold until their end,
    /// and what nobody can be sure of is destroyed.
    #[must_use]
    pub fn restore(bounds: Bounds, seed: u64, known: &Known, now: Moment) -> (Policy, Vec<Effect>) {
        let mut policy = Policy::new(bounds, seed);
        policy.next = known.next;
        for saved in known.members.values() {
            policy.adopt(saved, now);
        }
        let effects = policy.settle(now);
        (policy, effects)
    }

    fn adopt(&mut self, saved: &Saved, now: Moment) {
        let phase = match saved.phase {
            SavedPhase::Doubtful => Phase::Doomed { failures: 0 },
            SavedPhase::Ready => Phase::Checking { since: now },
            SavedPhase::Leased { until } => Phase::Leased { until },
            SavedPhase::Dirty => Phase::Dirty,
        };
        let vm = saved.vm;
        let member = Member { made_at: saved.made_at, uses: saved.uses, phase };
        self.agenda.set(member.retires_at(vm, &self.bounds), Alarm::Age(vm));
        self.census.count(phase, |n| n + 1);
        self.members.insert(vm, member);
        match phase {
            Phase::Doomed { .. } => drop(self.doomed.insert(vm)),
            Phase::Checking { .. } => self.work(vm, Job::Check),
            Phase::Leased { until } => self.agenda.set(until, Alarm::Lease(vm)),
            Phase::Dirty => drop(self.dirty.insert(vm)),
            Phase::Making
            | Phase::Proving { .. }
            | Phase::Ready { .. }
            | Phase::Resetting
            | Phase::Ending { .. } => {}
        }
    }
}
