//! What the pool does of its own accord after each event: checks VMs for those in line, shrinks, and fills the places
//! of `parallel`.

use super::agenda::Alarm;
use super::member::{Member, Phase};
use super::{Effect, Entry, Job, MemberId, Moment, Policy, Refusal};

impl Policy {
    /// Lets time pass, then does all there is to do, and hands over the effects of the event.
    pub(super) fn settle(&mut self, now: Moment) -> Vec<Effect> {
        self.ring(now);
        self.check_for_the_line();
        self.shrink(now);
        while self.census.busy() < self.bounds.parallel && self.start_one(now) {}
        std::mem::take(&mut self.effects)
    }

    fn ring(&mut self, now: Moment) {
        while let Some(alarm) = self.agenda.due(now) {
            match alarm {
                Alarm::Deadline(ticket) => {
                    if self.leave(ticket).is_some() {
                        self.refuse(ticket, Refusal::TimedOut);
                    }
                }
                Alarm::Lease(vm) => self.expire(vm, now),
                // One that is not ready is looked at again when it would be.
                Alarm::Age(vm) => {
                    if matches!(self.phase(vm), Some(Phase::Ready { .. })) {
                        self.doom(vm);
                    }
                }
                Alarm::Hold(_) => self.held -= 1,
                Alarm::Destroy(vm) => drop(self.doomed.insert(vm)),
            }
        }
    }

    /// Has a VM checked for each caller in line. The most recently used ones are taken, so that what nobody needs
    /// grows idle and is destroyed.
    fn check_for_the_line(&mut self) {
        while self.census.checking < self.line.len() {
            let Some((since, vm)) = self.ready.last().copied() else { return };
            self.enter(vm, Phase::Checking { since });
            self.work(vm, Job::Check);
        }
    }

    /// Destroys what nobody has needed for long, and what a smaller `max` than before leaves no room for.
    fn shrink(&mut self, now: Moment) {
        while let Some((since, vm)) = self.ready.first().copied() {
            let idle = self.ready.len() > self.bounds.min && now >= since + self.bounds.max_idle;
            if !idle && !self.is_over_max() {
                return;
            }
            self.doom(vm);
        }
    }

    /// Starts the most useful piece of work that may be done; `false` when there is none.
    fn start_one(&mut self, now: Moment) -> bool {
        if let Some(vm) = self.doomed.pop_first() {
            if let Some(Phase::Doomed { failures }) = self.phase(vm) {
                self.enter(vm, Phase::Ending { failures });
                self.work(vm, Job::Destroy);
            }
            return true;
        }
        if let Some(vm) = self.dirty.first().copied() {
            if self.may_reset(now) && !self.is_spent(vm, now) {
                self.enter(vm, Phase::Resetting);
                self.work(vm, Job::Reset);
            } else {
                self.doom(vm);
            }
            return true;
        }
        self.may_make() && {
            self.make(now);
            true
        }
    }

    /// While resets fail one after the other, one is tried now and then and the other VMs are replaced.
    fn may_reset(&self, now: Moment) -> bool {
        !self.resetting.is_degraded() || (now >= self.resetting.retry_at && self.census.resets() == 0)
    }

    fn may_make(&self) -> bool {
        let wanted = self.bounds.min + self.line.len();
        let coming = self.census.makes() + self.census.resets() + self.dirty.len() + self.held;
        let supply = self.ready.len() + self.census.checking + coming;
        // While makes fail one after the other, one is tried at a time.
        let hopeful = !self.making.is_degraded() || (self.census.makes() == 0 && self.held == 0);
        !self.draining && hopeful && supply < wanted && self.members.len() < self.bounds.max
    }

    fn make(&mut self, now: Moment) {
        let vm = self.next;
        self.next = MemberId(vm.0 + 1);
        let member = Member { made_at: now, uses: 0, phase: Phase::Making };
        self.census.count(member.phase, |n| n + 1);
        self.members.insert(vm, member);
        self.agenda.set(member.retires_at(vm, &self.bounds), Alarm::Age(vm));
        self.effects.push(Effect::Record(Entry::Vm(member.saved(vm))));
        self.work(vm, Job::Make);
    }

    /// The VM is to be destroyed.
    pub(super) fn doom(&mut self, vm: MemberId) {
        self.enter(vm, Phase::Doomed { failures: 0 });
        self.doomed.insert(vm);
    }

    pub(super) fn is_over_max(&self) -> bool {
        self.members.len() > self.bounds.max
    }

    pub(super) fn work(&mut self, vm: MemberId, job: Job) {
        self.effects.push(Effect::Work { vm, job });
    }

    pub(super) fn phase(&self, vm: MemberId) -> Option<Phase> {
        self.members.get(&vm).map(|member| member.phase)
    }

    /// The one place where a VM changes its phase: what is kept beside the phases changes with it, and what a crash
    /// must not lose is recorded.
    pub(super) fn enter(&mut self, vm: MemberId, phase: Phase) {
        let Some(member) = self.members.get_mut(&vm) else { return };
        let before = member.saved(vm);
        let left = std::mem::replace(&mut member.phase, phase);
        if let (Phase::Leased { .. }, Phase::Checking { .. }) = (phase, left) {
            member.uses += 1;
        }
        let after = member.saved(vm);
        self.census.count(left, |n| n.saturating_sub(1));
        self.census.count(phase, |n| n + 1);
        match left {
            Phase::Ready { since } => drop(self.ready.remove(&(since, vm))),
            Phase::Leased { until } => self.agenda.clear(until, Alarm::Lease(vm)),
            Phase::Dirty => drop(self.dirty.remove(&vm)),
            Phase::Making
            | Phase::Proving { .. }
            | Phase::Checking { .. }
            | Phase::Resetting
            | Phase::Doomed { .. }
            | Phase::Ending { .. } => {}
        }
        match phase {
            Phase::Ready { since } => drop(self.ready.insert((since, vm))),
            Phase::Leased { until } => self.agenda.set(until, Alarm::Lease(vm)),
            Phase::Dirty => drop(self.dirty.insert(vm)),
            Phase::Making
            | Phase::Proving { .. }
            | Phase::Checking { .. }
            | Phase::Resetting
            | Phase::Doomed { .. }
            | Phase::Ending { .. } => {}
        }
        if before != after {
            self.effects.push(Effect::Record(Entry::Vm(after)));
        }
    }
}
