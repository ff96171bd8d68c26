//! Who has a VM, and until when.

use std::time::Duration;

use super::member::{LeaseId, Phase};
use super::{Effect, MemberId, Moment, Policy};

/// A lease cannot be ended or renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// The pool has no such VM, or has it no more.
    #[error("the pool has no such VM")]
    NoSuchVm,
    /// Nobody holds the VM: the lease was given back or has expired.
    #[error("nobody holds the VM: its lease was given back, or it expired")]
    NotLeased,
    /// Somebody else holds it by now.
    #[error("that lease is over, and the VM is another holder's by now")]
    Stale,
}

impl Policy {
    /// A holder gives its VM back. Without a lease, whoever holds it is meant.
    pub fn release(
        &mut self,
        vm: MemberId,
        lease: Option<LeaseId>,
        now: Moment,
    ) -> (Result<(), LeaseError>, Vec<Effect>) {
        // What has expired by now is not given back: the pool took it.
        let mut effects = self.settle(now);
        let result = self.held_lease(vm, lease).map(|_| {
            self.counts.released += 1;
            self.take_back(vm, now);
        });
        effects.extend(self.settle(now));
        (result, effects)
    }

    /// A holder wants its VM for `ttl` from now on; when the lease ends then.
    pub fn renew(
        &mut self,
        vm: MemberId,
        lease: Option<LeaseId>,
        ttl: Duration,
        now: Moment,
    ) -> (Result<Moment, LeaseError>, Vec<Effect>) {
        let mut effects = self.settle(now);
        let result = self.held_lease(vm, lease).map(|_| {
            let until = now + ttl.min(self.bounds.max_ttl);
            self.enter(vm, Phase::Leased { until });
            self.counts.renewed += 1;
            until
        });
        effects.extend(self.settle(now));
        (result, effects)
    }

    /// Gives the VM to whoever is first in line; `false` when nobody is.
    pub(super) fn grant(&mut self, vm: MemberId, now: Moment) -> bool {
        let Some((&ticket, waiter)) = self.line.first_key_value() else { return false };
        let (since, until) = (waiter.since, now + waiter.ttl);
        self.leave(ticket);
        self.enter(vm, Phase::Leased { until });
        self.counts.granted += 1;
        self.counts.waited += now.saturating_sub(since);
        let uses = self.members.get(&vm).map_or(0, |member| member.uses);
        self.effects.push(Effect::Grant { ticket, lease: LeaseId { vm, uses }, until });
        true
    }

    pub(super) fn expire(&mut self, vm: MemberId, now: Moment) {
        if let Ok(lease) = self.held_lease(vm, None) {
            self.counts.expired += 1;
            self.effects.push(Effect::Expired { lease });
            self.take_back(vm, now);
        }
    }

    fn held_lease(&self, vm: MemberId, lease: Option<LeaseId>) -> Result<LeaseId, LeaseError> {
        let member = self.members.get(&vm).ok_or(LeaseError::NoSuchVm)?;
        let Phase::Leased { .. } = member.phase else { return Err(LeaseError::NotLeased) };
        let held = LeaseId { vm, uses: member.uses };
        if lease.is_some_and(|lease| lease != held) { Err(LeaseError::Stale) } else { Ok(held) }
    }

    fn take_back(&mut self, vm: MemberId, now: Moment) {
        if self.is_spent(vm, now) {
            self.doom(vm);
        } else {
            self.enter(vm, Phase::Dirty);
        }
    }
}
