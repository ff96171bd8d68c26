//! Decides what becomes of each VM and who gets it. No lock, no clock and no descriptor in here: events go in, effects
//! come out, and the time comes with the event.
//!
//! ```text
//!             made           proved                 alive: granted
//!  Making ──────────► Proving ─────► Ready ─► Checking ─────────► Leased
//!     │                ▲  │            │         │                  │ released, expired
//!     │                │  │            │         │                  ▼
//!     │      reset     │  │            │         │  Resetting ◄── Dirty
//!     │       ┌────────┘  │            │         │      │           │
//!     │ failed│           │ failed     │ idle,   │ dead │ failed    │ worn out, aged, resets fail
//!     ▼       │           ▼            ▼ aged    ▼      ▼           ▼
//!   Doomed ◄──┴───────────────────────────────────────────────────────
//!     │ ▲
//!     ▼ │ failed: again later, and never forgotten
//!   Ending ──destroyed──► gone
//! ```
//!
//! * A VM is in one phase, and in `Leased` it has one holder: nobody else can have it.
//! * Every VM counts against `max` from the decision to make it until it is destroyed.
//! * `Making`, `Resetting` (each with its `Proving`) and `Ending` take one of `parallel` places. Destruction goes
//!   first, as it makes room; then resets, which are cheaper than VMs made anew.
//! * Callers wait in one line. A VM is checked *for the line*, not for one caller: whoever is first when the answer
//!   comes gets it. So nobody is overtaken, and a caller that gives up costs the others nothing.
//! * What has to survive a crash is an [`Effect::Record`], to be on disk before any later effect is carried out.

mod agenda;
mod bounds;
#[cfg(test)]
mod crash_tests;
mod finish;
mod leases;
mod member;
#[cfg(test)]
mod model;
mod plan;
mod restore;
mod status;
#[cfg(test)]
mod tests;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::agenda::{Agenda, Alarm};
use self::member::{Census, Member, Phase};
use self::trouble::Trouble;

pub use self::bounds::{Bounds, BoundsError, MAX_VMS, MAX_WAITERS};
pub use self::leases::LeaseError;
pub use self::member::{LeaseId, MemberId, Saved, SavedPhase};
pub use self::restore::Known;
pub use self::status::{Counts, MemberStatus, Status, TroubleStatus};

/// A time, as the time since the host's boot: it goes on over a restart of the pool.
pub type Moment = Duration;

/// A caller, from its acquire until it was given a VM or refused. A lower number stands further ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What is done to a VM. Each ends in one [`Policy::finished`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// Make it: cold, or from the golden snapshot.
    Make,
    /// Bring it back to the golden state.
    Reset,
    /// Prove that it answers and that nothing of a previous holder is left.
    Prove,
    /// Ask whether it is alive.
    Check,
    /// End it and remove all of it. One that is not there is destroyed.
    Destroy,
}

impl Job {
    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Job::Make => "make",
            Job::Reset => "reset",
            Job::Prove => "prove",
            Job::Check => "check",
            Job::Destroy => "destroy",
        }
    }
}

/// What is to be done about an event, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Remember this over a crash; before anything that follows.
    Record(Entry),
    /// Do this, and report it to [`Policy::finished`].
    Work {
        /// The VM.
        vm: MemberId,
        /// What.
        job: Job,
    },
    /// The caller has the VM.
    Grant {
        /// The caller.
        ticket: Ticket,
        /// Its lease, which names the VM.
        lease: LeaseId,
        /// When the lease ends unless it is renewed.
        until: Moment,
    },
    /// The caller gets none.
    Refuse {
        /// The caller.
        ticket: Ticket,
        /// Why.
        refusal: Refusal,
    },
    /// A lease ended by itself, and its VM was taken back.
    Expired {
        /// The lease.
        lease: LeaseId,
    },
}

/// What has to survive a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Entry {
    /// All that is known of a VM, in place of what was known before.
    Vm(Saved),
    /// The VM is no more.
    Gone {
        /// Which.
        vm: MemberId,
    },
}

/// Why a caller gets no VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// None came free before the deadline.
    #[error("no VM of the pool came free in time")]
    TimedOut,
    /// The line is full.
    #[error("{0} callers wait already, which is the most the pool lets wait")]
    Busy(usize),
    /// The pool is being drained.
    #[error("the pool is being drained and gives no VM to anybody")]
    Draining,
}

#[derive(Debug)]
struct Waiter {
    since: Moment,
    deadline: Moment,
    ttl: Duration,
}

/// The state of a pool; see the module. Each event returns what is to be done about it.
#[derive(Debug)]
pub struct Policy {
    bounds: Bounds,
    members: BTreeMap<MemberId, Member>,
    census: Census,
    next: MemberId,
    /// Ready VMs, longest idle first.
    ready: BTreeSet<(Moment, MemberId)>,
    dirty: BTreeSet<MemberId>,
    /// To be destroyed now; one whose destruction failed waits for its alarm instead.
    doomed: BTreeSet<MemberId>,
    line: BTreeMap<Ticket, Waiter>,
    agenda: Agenda,
    making: Trouble,
    resetting: Trouble,
    ending: Trouble,
    /// Failed makes that wait for their next try; each keeps the place of one VM.
    held: usize,
    draining: bool,
    counts: Counts,
    effects: Vec<Effect>,
}

impl Policy {
    /// An empty pool. `seed` makes its backoff differ from that of other pools.
    #[must_use]
    pub fn new(bounds: Bounds, seed: u64) -> Policy {
        Policy {
            bounds,
            members: BTreeMap::new(),
            census: Census::default(),
            next: MemberId(1),
            ready: BTreeSet::new(),
            dirty: BTreeSet::new(),
            doomed: BTreeSet::new(),
            line: BTreeMap::new(),
            agenda: Agenda::default(),
            making: Trouble::new(seed),
            resetting: Trouble::new(seed.rotate_left(21)),
            ending: Trouble::new(seed.rotate_left(42)),
            held: 0,
            draining: false,
            counts: Counts::default(),
            effects: Vec::new(),
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Moment) -> Vec<Effect> {
        self.settle(now)
    }

    /// When [`Policy::tick`] has something to do, if nothing else happens before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Moment> {
        let idle = (self.ready.len() > self.bounds.min).then(|| self.ready.first()).flatten();
        let idle = idle.map(|(since, _)| *since + self.bounds.max_idle);
        self.agenda.first().into_iter().chain(idle).min()
    }

    /// A caller wants a VM for `ttl`, and waits until `deadline`.
    pub fn acquire(&mut self, ticket: Ticket, ttl: Duration, deadline: Moment, now: Moment) -> Vec<Effect> {
        let refusal = if self.draining {
            Some(Refusal::Draining)
        } else if self.line.len() >= self.bounds.waiters {
            Some(Refusal::Busy(self.bounds.waiters))
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.refuse(ticket, refusal);
        } else {
            self.line.insert(ticket, Waiter { since: now, deadline, ttl: ttl.min(self.bounds.max_ttl) });
            self.agenda.set(deadline, Alarm::Deadline(ticket));
        }
        self.settle(now)
    }

    /// A caller gives up. One that was answered already is not in line any more, and nothing happens.
    pub fn cancel(&mut self, ticket: Ticket, now: Moment) -> Vec<Effect> {
        if self.leave(ticket).is_some() {
            self.counts.cancelled += 1;
        }
        self.settle(now)
    }

    /// Gives no VM to anybody any more and destroys each as soon as nobody holds it.
    pub fn drain(&mut self, now: Moment) -> Vec<Effect> {
        self.draining = true;
        for ticket in self.line.keys().copied().collect::<Vec<_>>() {
            self.leave(ticket);
            self.refuse(ticket, Refusal::Draining);
        }
        for vm in self.in_phase(|phase| matches!(phase, Phase::Ready { .. } | Phase::Dirty)) {
            self.doom(vm);
        }
        self.settle(now)
    }

    /// Takes the VMs from their holders, to end a drain.
    pub fn cut(&mut self, now: Moment) -> Vec<Effect> {
        for vm in self.in_phase(|phase| matches!(phase, Phase::Leased { .. })) {
            self.doom(vm);
        }
        self.settle(now)
    }

    /// Whether the pool is drained and its last VM gone.
    #[must_use]
    pub fn drained(&self) -> bool {
        self.draining && self.members.is_empty()
    }

    /// Whether the pool knows this VM.
    #[must_use]
    pub fn knows(&self, vm: MemberId) -> bool {
        self.members.contains_key(&vm)
    }

    fn leave(&mut self, ticket: Ticket) -> Option<Waiter> {
        let waiter = self.line.remove(&ticket)?;
        self.agenda.clear(waiter.deadline, Alarm::Deadline(ticket));
        Some(waiter)
    }

    fn refuse(&mut self, ticket: Ticket, refusal: Refusal) {
        match refusal {
            Refusal::TimedOut => self.counts.timed_out += 1,
            Refusal::Busy(_) | Refusal::Draining => self.counts.refused += 1,
        }
        self.effects.push(Effect::Refuse { ticket, refusal });
    }

    fn in_phase(&self, matches: impl Fn(&Phase) -> bool) -> Vec<MemberId> {
        self.members.iter().filter(|(_, member)| matches(&member.phase)).map(|(vm, _)| *vm).collect()
    }
}
