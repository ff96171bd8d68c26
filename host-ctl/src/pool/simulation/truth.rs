//! What is so in the simulated world, and which rules were broken.

use std::collections::{BTreeMap, BTreeSet};

use crate::pool::policy::{LeaseId, MemberId, Moment, Ticket};

/// Rules broken that are noted; more would only repeat them.
const MAX_BROKEN: usize = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// Somebody used it, or nobody has looked at it yet.
    Unproved,
    Proved,
    /// Proved, and it has answered since.
    Answered,
}

/// The account of everything.
#[derive(Debug, Default)]
pub(super) struct Truth {
    max: usize,
    vms: BTreeMap<MemberId, Condition>,
    holders: BTreeMap<MemberId, LeaseId>,
    waiting: BTreeMap<Ticket, (Moment, Moment)>,
    busy: BTreeSet<MemberId>,
    last_granted: Option<Ticket>,
    pub(super) most_vms: usize,
    pub(super) broken: Vec<String>,
}

impl Truth {
    pub(super) fn new(max: usize) -> Truth {
        Truth { max, ..Truth::default() }
    }

    fn require(&mut self, holds: bool, rule: impl FnOnce() -> String) {
        if !holds && self.broken.len() < MAX_BROKEN {
            self.broken.push(rule());
        }
    }

    pub(super) fn asked(&mut self, ticket: Ticket, now: Moment, deadline: Moment) {
        self.waiting.insert(ticket, (now, deadline));
    }

    /// How long the caller had waited.
    pub(super) fn granted(&mut self, ticket: Ticket, lease: LeaseId, now: Moment) -> Option<Moment> {
        let vm = lease.vm;
        let waited = self.waiting.remove(&ticket);
        self.require(waited.is_some(), || format!("{ticket:?} was given {vm} and did not wait"));
        let first = self.last_granted < Some(ticket);
        self.require(first, || format!("{ticket:?} was overtaken"));
        self.last_granted = Some(ticket);
        let alone = !self.holders.contains_key(&vm);
        self.require(alone, || format!("{vm} has two holders"));
        let answered = self.vms.get(&vm) == Some(&Condition::Answered);
        self.require(answered, || format!("{vm} was handed out unproved"));
        self.require(!self.busy.contains(&vm), || format!("{vm} was handed out while worked on"));
        self.holders.insert(vm, lease);
        self.vms.insert(vm, Condition::Unproved);
        let (since, deadline) = waited?;
        self.require(now <= deadline, || format!("{ticket:?} was answered after its deadline"));
        Some(now.saturating_sub(since))
    }

    pub(super) fn refused(&mut self, ticket: Ticket, now: Moment) {
        let known = self.waiting.remove(&ticket);
        let in_time = known.is_some_and(|(_, deadline)| now <= deadline);
        self.require(in_time, || format!("{ticket:?} was refused late, or twice"));
    }

    /// The holder has the VM no more.
    pub(super) fn let_go(&mut self, lease: LeaseId) {
        if self.holders.get(&lease.vm) == Some(&lease) {
            self.holders.remove(&lease.vm);
        }
    }

    pub(super) fn holds(&self, lease: LeaseId) -> bool {
        self.holders.get(&lease.vm) == Some(&lease)
    }

    pub(super) fn work_begins(&mut self, vm: MemberId, makes: bool) {
        let held = self.holders.contains_key(&vm);
        self.require(!held, || format!("{vm} is worked on while somebody holds it"));
        let idle = self.busy.insert(vm);
        self.require(idle, || format!("{vm} is worked on twice"));
        if makes {
            let new = self.vms.insert(vm, Condition::Unproved).is_none();
            self.require(new, || format!("{vm} was made twice"));
            self.most_vms = self.most_vms.max(self.vms.len());
            let (count, max) = (self.vms.len(), self.max);
            self.require(count <= max, || format!("{count} VMs, at most {max}"));
        } else {
            let exists = self.vms.contains_key(&vm);
            self.require(exists, || format!("{vm} is worked on and does not exist"));
        }
    }

    pub(super) fn work_ended(&mut self, vm: MemberId) {
        self.busy.remove(&vm);
    }

    pub(super) fn proved(&mut self, vm: MemberId) {
        self.vms.insert(vm, Condition::Proved);
    }

    pub(super) fn answered(&mut self, vm: MemberId) {
        if let Some(condition @ Condition::Proved) = self.vms.get_mut(&vm) {
            *condition = Condition::Answered;
        }
    }

    pub(super) fn soiled(&mut self, vm: MemberId) {
        self.vms.insert(vm, Condition::Unproved);
    }

    pub(super) fn destroyed(&mut self, vm: MemberId) {
        self.vms.remove(&vm);
    }

    /// Nobody waits for ever: all deadlines have passed by now.
    pub(super) fn at_the_end(&mut self, now: Moment) {
        let late = self.waiting.values().filter(|(_, deadline)| *deadline < now).count();
        self.require(late == 0, || format!("{late} callers never got an answer"));
        let left = self.vms.len();
        self.require(left == 0, || format!("{left} VMs are left after the drain"));
    }
}
