//! The policy once more, as naive as can be: one list of VMs, one of callers, every question answered by looking at all
//! of them, and one rule applied at a time until none applies. Only the waits after failures are the policy's own.

use std::time::Duration;

use super::member::{LeaseId, Member, MemberId, Origin, Phase};
use super::trouble::Trouble;
use super::{Bounds, Effect, Job, Moment, Refusal, Ticket};

#[derive(Debug, Clone, Copy)]
pub(super) struct Vm {
    pub(super) id: MemberId,
    pub(super) member: Member,
    /// A doomed one is left alone until then.
    not_before: Moment,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) bounds: Bounds,
    pub(super) vms: Vec<Vm>,
    pub(super) line: Vec<(Ticket, Duration, Moment)>,
    holds: Vec<Moment>,
    making: Trouble,
    resetting: Trouble,
    ending: Trouble,
    draining: bool,
    made: u64,
    effects: Vec<Effect>,
}

impl Model {
    pub(super) fn new(bounds: Bounds, seed: u64) -> Model {
        Model {
            bounds,
            vms: vec![],
            line: vec![],
            holds: vec![],
            making: Trouble::new(seed),
            resetting: Trouble::new(seed.rotate_left(21)),
            ending: Trouble::new(seed.rotate_left(42)),
            draining: false,
            made: 0,
            effects: vec![],
        }
    }

    pub(super) fn acquire(
        &mut self,
        ticket: Ticket,
        ttl: Duration,
        deadline: Moment,
        now: Moment,
    ) -> Vec<Effect> {
        if self.draining {
            self.effects.push(Effect::Refuse { ticket, refusal: Refusal::Draining });
        } else if self.line.len() == self.bounds.waiters {
            self.effects.push(Effect::Refuse { ticket, refusal: Refusal::Busy(self.bounds.waiters) });
        } else {
            self.line.push((ticket, ttl.min(self.bounds.max_ttl), deadline));
        }
        self.settle(now)
    }

    pub(super) fn cancel(&mut self, ticket: Ticket, now: Moment) -> Vec<Effect> {
        self.line.retain(|(other, _, _)| *other != ticket);
        self.settle(now)
    }

    pub(super) fn release(&mut self, vm: MemberId, now: Moment) -> Vec<Effect> {
        let before = self.settle(now);
        if matches!(self.phase(vm), Some(Phase::Leased { .. })) {
            self.give_back(vm, now);
        }
        [before, self.settle(now)].concat()
    }

    pub(super) fn renew(&mut self, vm: MemberId, ttl: Duration, now: Moment) -> Vec<Effect> {
        let before = self.settle(now);
        if matches!(self.phase(vm), Some(Phase::Leased { .. })) {
            self.set(vm, Phase::Leased { until: now + ttl.min(self.bounds.max_ttl) });
        }
        [before, self.settle(now)].concat()
    }

    pub(super) fn drain(&mut self, now: Moment) -> Vec<Effect> {
        self.draining = true;
        for (ticket, _, _) in std::mem::take(&mut self.line) {
            self.effects.push(Effect::Refuse { ticket, refusal: Refusal::Draining });
        }
        for vm in self.all(|phase| matches!(phase, Phase::Ready { .. } | Phase::Dirty)) {
            self.set(vm, Phase::Doomed { failures: 0 });
        }
        self.settle(now)
    }

    pub(super) fn finished(&mut self, vm: MemberId, job: Job, well: bool, now: Moment) -> Vec<Effect> {
        let phase = self.phase(vm);
        let of_reset = matches!(phase, Some(Phase::Resetting | Phase::Proving { after: Origin::Reset }));
        let origin = if of_reset { Origin::Reset } else { Origin::Make };
        match (job, well) {
            (Job::Make | Job::Reset, true) => {
                self.set(vm, Phase::Proving { after: origin });
                self.effects.push(Effect::Work { vm, job: Job::Prove });
            }
            (Job::Prove, true) => {
                if origin == Origin::Make {
                    self.making.succeeded();
                } else {
                    self.resetting.succeeded();
                }
                self.idle(vm, now, now);
            }
            (Job::Make | Job::Reset | Job::Prove, false) => {
                if origin == Origin::Make {
                    let again = self.making.failed(now);
                    self.holds.push(again);
                } else {
                    self.resetting.failed(now);
                }
                self.set(vm, Phase::Doomed { failures: 0 });
            }
            (Job::Check, true) => self.checked(vm, now),
            (Job::Check, false) => self.set(vm, Phase::Doomed { failures: 0 }),
            (Job::Destroy, true) => {
                self.ending.succeeded();
                self.vms.retain(|other| other.id != vm);
            }
            (Job::Destroy, false) => {
                let Some(Phase::Ending { failures }) = self.phase(vm) else { unreachable!() };
                self.set(vm, Phase::Doomed { failures: failures + 1 });
                self.ending.failed(now);
                let again = now + self.ending.wait(failures + 1);
                self.vms.iter_mut().filter(|other| other.id == vm).for_each(|vm| vm.not_before = again);
            }
        }
        self.settle(now)
    }

    pub(super) fn tick(&mut self, now: Moment) -> Vec<Effect> {
        self.settle(now)
    }

    fn checked(&mut self, vm: MemberId, now: Moment) {
        let Some(Phase::Checking { since }) = self.phase(vm) else { unreachable!() };
        if self.line.is_empty() || self.spent(vm, now) {
            self.idle(vm, since, now);
            return;
        }
        let (ticket, ttl, _) = self.line.remove(0);
        let until = now + ttl;
        self.set(vm, Phase::Leased { until });
        let mut uses = 0;
        for other in self.vms.iter_mut().filter(|other| other.id == vm) {
            other.member.uses += 1;
            uses = other.member.uses;
        }
        self.effects.push(Effect::Grant { ticket, lease: LeaseId { vm, uses }, until });
    }

    fn settle(&mut self, now: Moment) -> Vec<Effect> {
        while self.let_time_pass(now) || self.check_one() || self.retire_idle(now) || self.start_one(now) {}
        std::mem::take(&mut self.effects)
    }

    fn let_time_pass(&mut self, now: Moment) -> bool {
        self.holds.retain(|until| *until > now);
        if let Some(place) = self.line.iter().position(|(_, _, deadline)| *deadline <= now) {
            let (ticket, _, _) = self.line.remove(place);
            self.effects.push(Effect::Refuse { ticket, refusal: Refusal::TimedOut });
            return true;
        }
        for Vm { id, member, .. } in self.vms.clone() {
            if matches!(member.phase, Phase::Leased { until } if until <= now) {
                self.effects.push(Effect::Expired { lease: LeaseId { vm: id, uses: member.uses } });
                self.give_back(id, now);
                return true;
            }
            let aged = member.retires_at(id, &self.bounds) <= now;
            if aged && matches!(member.phase, Phase::Ready { .. }) {
                self.set(id, Phase::Doomed { failures: 0 });
                return true;
            }
        }
        false
    }

    fn check_one(&mut self) -> bool {
        let checking = self.all(|phase| matches!(phase, Phase::Checking { .. })).len();
        let Some((since, vm)) = self.ready().into_iter().max() else { return false };
        checking < self.line.len() && {
            self.set(vm, Phase::Checking { since });
            self.effects.push(Effect::Work { vm, job: Job::Check });
            true
        }
    }

    fn retire_idle(&mut self, now: Moment) -> bool {
        let ready = self.ready();
        let oldest = ready.iter().min().filter(|(since, _)| *since + self.bounds.max_idle <= now);
        oldest.filter(|_| ready.len() > self.bounds.min).is_some_and(|(_, vm)| {
            self.set(*vm, Phase::Doomed { failures: 0 });
            true
        })
    }

    fn start_one(&mut self, now: Moment) -> bool {
        let makes =
            self.all(|phase| matches!(phase, Phase::Making | Phase::Proving { after: Origin::Make })).len();
        let resets = self
            .all(|phase| matches!(phase, Phase::Resetting | Phase::Proving { after: Origin::Reset }))
            .len();
        let ending = self.all(|phase| matches!(phase, Phase::Ending { .. })).len();
        if makes + resets + ending >= self.bounds.parallel {
            return false;
        }
        let doomed = |vm: &&Vm| matches!(vm.member.phase, Phase::Doomed { .. }) && vm.not_before <= now;
        if let Some(Vm { id, member, .. }) = self.vms.iter().find(doomed).copied() {
            let Phase::Doomed { failures } = member.phase else { unreachable!() };
            self.set(id, Phase::Ending { failures });
            self.effects.push(Effect::Work { vm: id, job: Job::Destroy });
            return true;
        }
        let dirty = self.all(|phase| *phase == Phase::Dirty);
        if let Some(vm) = dirty.first().copied() {
            let try_it = !self.resetting.is_degraded() || (now >= self.resetting.retry_at && resets == 0);
            if try_it && !self.spent(vm, now) {
                self.set(vm, Phase::Resetting);
                self.effects.push(Effect::Work { vm, job: Job::Reset });
            } else {
                self.set(vm, Phase::Doomed { failures: 0 });
            }
            return true;
        }
        let checking = self.all(|phase| matches!(phase, Phase::Checking { .. })).len();
        let supply = self.ready().len() + checking + makes + resets + dirty.len() + self.holds.len();
        let hopeful = !self.making.is_degraded() || (makes == 0 && self.holds.is_empty());
        let wanted = supply < self.bounds.min + self.line.len() && self.vms.len() < self.bounds.max;
        (wanted && hopeful && !self.draining) && {
            self.made += 1;
            let id = MemberId(self.made);
            let member = Member { made_at: now, uses: 0, phase: Phase::Making };
            self.vms.push(Vm { id, member, not_before: Moment::ZERO });
            self.effects.push(Effect::Work { vm: id, job: Job::Make });
            true
        }
    }

    fn give_back(&mut self, vm: MemberId, now: Moment) {
        let phase = if self.spent(vm, now) { Phase::Doomed { failures: 0 } } else { Phase::Dirty };
        self.set(vm, phase);
    }

    fn idle(&mut self, vm: MemberId, since: Moment, now: Moment) {
        let phase = if self.spent(vm, now) { Phase::Doomed { failures: 0 } } else { Phase::Ready { since } };
        self.set(vm, phase);
    }

    fn spent(&self, vm: MemberId, now: Moment) -> bool {
        let member = self.vms.iter().find(|other| other.id == vm).unwrap().member;
        let worn = self.bounds.max_uses > 0 && member.uses >= self.bounds.max_uses;
        worn || self.draining || now >= member.retires_at(vm, &self.bounds)
    }

    fn ready(&self) -> Vec<(Moment, MemberId)> {
        let since =
            |vm: &Vm| if let Phase::Ready { since } = vm.member.phase { Some((since, vm.id)) } else { None };
        self.vms.iter().filter_map(since).collect()
    }

    fn all(&self, matches: impl Fn(&Phase) -> bool) -> Vec<MemberId> {
        self.vms.iter().filter(|vm| matches(&vm.member.phase)).map(|vm| vm.id).collect()
    }

    fn phase(&self, vm: MemberId) -> Option<Phase> {
        self.vms.iter().find(|other| other.id == vm).map(|vm| vm.member.phase)
    }

    fn set(&mut self, vm: MemberId, phase: Phase) {
        self.vms.iter_mut().filter(|other| other.id == vm).for_each(|vm| vm.member.phase = phase);
    }
}
