//! What follows from the end of a piece of work.

use super::agenda::Alarm;
use super::member::{Origin, Phase};
use super::{Effect, Entry, Job, MemberId, Moment, Policy};

impl Policy {
    /// A piece of work ended. One that was not under way changes nothing.
    pub fn finished(&mut self, vm: MemberId, job: Job, well: bool, now: Moment) -> Vec<Effect> {
        match (job, self.phase(vm)) {
            (Job::Make, Some(Phase::Making)) => self.after_work(vm, Origin::Make, well, now),
            (Job::Reset, Some(Phase::Resetting)) => self.after_work(vm, Origin::Reset, well, now),
            (Job::Prove, Some(Phase::Proving { after })) => self.after_proof(vm, after, well, now),
            (Job::Check, Some(Phase::Checking { since })) => self.after_check(vm, since, well, now),
            (Job::Destroy, Some(Phase::Ending { failures })) => self.after_destroy(vm, failures, well, now),
            (Job::Make | Job::Reset | Job::Prove | Job::Check | Job::Destroy, _) => {}
        }
        self.settle(now)
    }

    fn after_work(&mut self, vm: MemberId, origin: Origin, well: bool, now: Moment) {
        if well {
            self.enter(vm, Phase::Proving { after: origin });
            self.work(vm, Job::Prove);
        } else {
            self.gone_wrong(vm, origin, now);
        }
    }

    fn after_proof(&mut self, vm: MemberId, origin: Origin, well: bool, now: Moment) {
        if !well {
            self.gone_wrong(vm, origin, now);
            return;
        }
        let (trouble, count) = match origin {
            Origin::Make => (&mut self.making, &mut self.counts.made),
            Origin::Reset => (&mut self.resetting, &mut self.counts.reset),
        };
        trouble.succeeded();
        *count += 1;
        self.make_ready(vm, now, now);
    }

    /// A failed make or reset leaves a VM that nobody trusts. Another is made in its place: after a failed make not at
    /// once, after a failed reset as the pool needs it.
    fn gone_wrong(&mut self, vm: MemberId, origin: Origin, now: Moment) {
        match origin {
            Origin::Make => {
                self.counts.make_failed += 1;
                let retry_at = self.making.failed(now);
                self.held += 1;
                self.agenda.set(retry_at, Alarm::Hold(vm.0));
            }
            Origin::Reset => {
                self.counts.reset_failed += 1;
                self.resetting.failed(now);
            }
        }
        self.doom(vm);
    }

    fn after_check(&mut self, vm: MemberId, since: Moment, well: bool, now: Moment) {
        if !well {
            self.counts.check_failed += 1;
            self.doom(vm);
        } else if self.is_spent(vm, now) || !self.grant(vm, now) {
            // Its caller gave up meanwhile: it is as idle as it was before.
            self.make_ready(vm, since, now);
        }
    }

    fn after_destroy(&mut self, vm: MemberId, failures: u32, well: bool, now: Moment) {
        if well {
            self.ending.succeeded();
            self.counts.destroyed += 1;
            self.forget(vm);
            return;
        }
        // It may still run and use memory, so it stays counted and is tried again until it is gone.
        self.counts.destroy_failed += 1;
        let failures = failures.saturating_add(1);
        self.enter(vm, Phase::Doomed { failures });
        self.ending.failed(now);
        let again = now + self.ending.wait(failures);
        self.agenda.set(again, Alarm::Destroy(vm));
    }

    fn make_ready(&mut self, vm: MemberId, since: Moment, now: Moment) {
        if self.is_spent(vm, now) {
            self.doom(vm);
        } else {
            self.enter(vm, Phase::Ready { since });
        }
    }

    /// Whether the VM is not to be handed out (any more).
    pub(super) fn is_spent(&self, vm: MemberId, now: Moment) -> bool {
        let worn = self.members.get(&vm).is_none_or(|member| {
            let worn = self.bounds.max_uses > 0 && member.uses >= self.bounds.max_uses;
            worn || now >= member.retires_at(vm, &self.bounds)
        });
        worn || self.draining || self.is_over_max()
    }

    fn forget(&mut self, vm: MemberId) {
        if let Some(member) = self.members.remove(&vm) {
            self.census.count(member.phase, |n| n.saturating_sub(1));
            self.agenda.clear(member.retires_at(vm, &self.bounds), Alarm::Age(vm));
            self.effects.push(Effect::Record(Entry::Gone { vm }));
        }
    }
}
