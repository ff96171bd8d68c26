//! The pool's state behind its one lock, and the waiting on it.
//!
//! Everything that runs at the same time meets here: callers, holders, the supervisor and the drivers of
//! connections. The rules are the policy's; this file only takes the lock, hands the event in, notes the effects
//! and wakes whom they concern. Every wait is an [`Until`]: it looks and leaves its waker under the same lock, so
//! no change can fall in between. There is no runtime, no clock and no descriptor here, and the lock comes from
//! `super::sync`, so that the tests can compile this very file a second time over a scheduler that explores
//! interleavings (`tests/exploration.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use super::caller::Caller;
use super::error::{Limit, Poison};
use super::key::{Generation, Key};
use super::policy::{Awaited, ConnectionId, Effect, Moment, Policy, Refusal, Ticket};
use super::sync::{Mutex, MutexGuard, PoisonError};
use super::until::{Topic, Until};

/// The pool's state, shared. `C` is a connection, `F` what a failed dial leaves to each who waited for it.
pub(super) struct Core<C, F> {
    clock: Box<dyn Fn() -> Moment + Send + Sync>,
    state: Mutex<State<C, F>>,
}

/// A connection to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) id: ConnectionId,
    pub(super) key: Key,
    pub(super) expires: Moment,
}

/// Why a caller gets no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused<F> {
    Dial(F),
    Busy(Limit),
    TimedOut,
    Superseded { newer: Generation },
    Closed,
}

/// What the lock guards.
pub(super) struct State<C, F> {
    policy: Policy,
    next_ticket: u64,
    /// Callers that have not come for their answer yet.
    tickets: BTreeMap<Ticket, Option<Result<ConnectionId, Refused<F>>>>,
    records: BTreeMap<ConnectionId, Record<C, F>>,
    /// Bounded, like the records, by the policy's limit of connections.
    jobs: VecDeque<Job>,
    next_registration: u64,
    /// One for each wait under way.
    wakers: BTreeMap<(Topic, u64), Waker>,
    /// Taken from `wakers` by the event at hand, to be woken after the lock is released.
    woken: Vec<Waker>,
}

struct Record<C, F> {
    connection: Option<Arc<C>>,
    failure: Option<F>,
    poison: Option<Poison>,
    closing: bool,
}

impl<C, F: Clone> Core<C, F> {
    pub(super) fn new(policy: Policy, clock: impl Fn() -> Moment + Send + Sync + 'static) -> Core<C, F> {
        let state = State {
            policy,
            next_ticket: 0,
            tickets: BTreeMap::new(),
            records: BTreeMap::new(),
            jobs: VecDeque::new(),
            next_registration: 0,
            wakers: BTreeMap::new(),
            woken: Vec::new(),
        };
        Core { clock: Box::new(clock), state: Mutex::new(state) }
    }

    // What callers say.

    pub(super) fn acquire(self: &Arc<Self>, key: &Key) -> Caller<C, F> {
        let ticket = self.change(|state, now| {
            let ticket = Ticket(state.next_ticket);
            state.next_ticket += 1;
            state.tickets.insert(ticket, None);
            let effects = state.policy.acquire(ticket, key, now);
            state.note(effects);
            ticket
        });
        Caller::new(Arc::clone(self), ticket)
    }

    /// Waits for the answer to an acquire.
    pub(super) fn answered(&self, ticket: Ticket) -> impl Future<Output = Result<ConnectionId, Refused<F>>> {
        Until::new(self, Topic::Ticket(ticket), move |state: &mut State<C, F>| state.collect(ticket))
    }

    /// The answer to one who waits no longer: what it was waiting for, unless the answer has come in this moment.
    pub(super) fn leave(&self, ticket: Ticket) -> Result<ConnectionId, Refused<F>> {
        self.change(|state, now| {
            match state.tickets.remove(&ticket) {
                Some(Some(answer)) => return answer,
                Some(None) => {}
                // It was given already.
                None => return Err(Refused::Closed),
            }
            let (awaited, effects) = state.policy.cancel(ticket, now);
            state.note(effects);
            match awaited {
                Some(Awaited::Room(limit)) => Err(Refused::Busy(limit)),
                Some(Awaited::Dial) => Err(Refused::TimedOut),
                None => Err(Refused::Closed),
            }
        })
    }

    pub(super) fn supersede(&self, key: &Key) {
        self.event(|policy, now| policy.supersede(key, now));
    }

    // What holders say.

    pub(super) fn released(&self, id: ConnectionId) {
        self.event(|policy, now| policy.released(id, now));
    }

    /// The connection, unless it is not to be used any more.
    pub(super) fn connection(&self, id: ConnectionId) -> Result<Arc<C>, Poison> {
        let state = self.lock();
        let record = state.records.get(&id).ok_or(Poison::Closed)?;
        record.poison.map_or_else(|| record.connection.clone().ok_or(Poison::Closed), Err)
    }

    pub(super) fn poison(&self, id: ConnectionId, poison: Poison) {
        self.event(|policy, now| policy.poison(id, poison, now));
    }

    /// Waits until the connection is not to be used any more.
    pub(super) fn poisoned(&self, id: ConnectionId) -> impl Future<Output = Poison> {
        Until::new(self, Topic::Connection(id), move |state: &mut State<C, F>| {
            state.records.get(&id).map_or(Some(Poison::Closed), |record| record.poison)
        })
    }

    // What the supervisor and the drivers of connections say.

    /// Waits for a connection to be made; `None` when the pool is shut and its last connection gone.
    pub(super) fn next_job(&self) -> impl Future<Output = Option<Job>> {
        Until::new(self, Topic::Pool, |state: &mut State<C, F>| {
            let job = state.jobs.pop_front();
            if job.is_some() || state.policy.drained() { Some(job) } else { None }
        })
    }

    pub(super) fn dialed(&self, id: ConnectionId, connection: Arc<C>) {
        self.change(|state, now| {
            if let Some(record) = state.records.get_mut(&id) {
                record.connection = Some(connection);
            }
            let effects = state.policy.dialed(id, now);
            state.note(effects);
        });
    }

    pub(super) fn failed(&self, id: ConnectionId, failure: F) {
        self.change(|state, now| {
            if let Some(record) = state.records.get_mut(&id) {
                record.failure = Some(failure);
            }
            let effects = state.policy.failed(id, now);
            state.note(effects);
        });
    }

    pub(super) fn expired(&self, id: ConnectionId) {
        self.event(|policy, now| policy.expired(id, now));
    }

    /// Waits until the connection is to be closed, or not to be made after all.
    pub(super) fn ordered_to_close(&self, id: ConnectionId) -> impl Future<Output = ()> {
        Until::new(self, Topic::Connection(id), move |state: &mut State<C, F>| {
            state.records.get(&id).is_none_or(|record| record.closing).then_some(())
        })
    }

    /// The connection is gone.
    pub(super) fn closed(&self, id: ConnectionId) {
        let record = self.change(|state, now| {
            let effects = state.policy.closed(id, now);
            state.note(effects);
            state.wake(Topic::Pool);
            state.records.remove(&id)
        });
        // Only now: a connection's own `drop` may do anything, and must not do it under our lock.
        drop(record);
    }

    // What closes the pool.

    pub(super) fn shut(&self) {
        self.change(|state, now| {
            let effects = state.policy.shut(now);
            state.note(effects);
            state.wake(Topic::Pool);
        });
    }

    /// Takes all connections from their holders; how many they were.
    pub(super) fn cut(&self) -> usize {
        self.change(|state, now| {
            let effects = state.policy.cut(now);
            let cut = effects.iter().filter(|effect| matches!(effect, Effect::Close { .. })).count();
            state.note(effects);
            cut
        })
    }

    /// Waits until the pool is shut and its last connection gone.
    pub(super) fn drained(&self) -> impl Future<Output = ()> {
        Until::new(self, Topic::Pool, |state: &mut State<C, F>| state.policy.drained().then_some(()))
    }

    // How all of them do it.

    fn event(&self, event: impl FnOnce(&mut Policy, Moment) -> Vec<Effect>) {
        self.change(|state, now| {
            let effects = event(&mut state.policy, now);
            state.note(effects);
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut State<C, F>, Moment) -> T) -> T {
        let mut state = self.lock();
        // Read under the lock, so that time does not run backwards from one event to the next.
        let now = (self.clock)();
        let result = change(&mut state, now);
        let woken = std::mem::take(&mut state.woken);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        result
    }
}

impl<C, F> Core<C, F> {
    /// Nothing panics while it holds the lock, and if it did, the next event would find the state of the last
    /// whole one.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<C, F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C, F: Clone> State<C, F> {
    fn note(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Dial { id, key, expires } => {
                    let record = Record { connection: None, failure: None, poison: None, closing: false };
                    self.records.insert(id, record);
                    self.jobs.push_back(Job { id, key, expires });
                    self.wake(Topic::Pool);
                }
                Effect::Grant { ticket, id } => self.answer(ticket, Ok(id)),
                Effect::Refuse { ticket, refusal } => {
                    let refused = self.refused(refusal);
                    self.answer(ticket, Err(refused));
                }
                Effect::Poison { id, poison } => self.mark(id, |record| record.poison = Some(poison)),
                Effect::Close { id } => self.mark(id, |record| record.closing = true),
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<ConnectionId, Refused<F>>) {
        self.tickets.insert(ticket, Some(answer));
        self.wake(Topic::Ticket(ticket));
    }

    fn mark(&mut self, id: ConnectionId, mark: impl FnOnce(&mut Record<C, F>)) {
        if let Some(record) = self.records.get_mut(&id) {
            mark(record);
        }
        self.wake(Topic::Connection(id));
    }

    fn refused(&self, refusal: Refusal) -> Refused<F> {
        match refusal {
            Refusal::DialFailed { id } => {
                let failure = self.records.get(&id).and_then(|record| record.failure.clone());
                failure.map_or(Refused::Closed, Refused::Dial)
            }
            Refusal::Busy(limit) => Refused::Busy(limit),
            Refusal::Superseded { newer } => Refused::Superseded { newer },
            Refusal::Closed => Refused::Closed,
        }
    }

    /// The ticket's answer, if it has one by now. It is given once.
    fn collect(&mut self, ticket: Ticket) -> Option<Result<ConnectionId, Refused<F>>> {
        let answer = self.tickets.get_mut(&ticket)?.take()?;
        self.tickets.remove(&ticket);
        Some(answer)
    }
}

impl<C, F> State<C, F> {
    fn wake(&mut self, topic: Topic) {
        let ids: Vec<_> = self.wakers.range((topic, 0)..=(topic, u64::MAX)).map(|(id, _)| *id).collect();
        self.woken.extend(ids.iter().filter_map(|id| self.wakers.remove(id)));
    }

    /// Leaves a waker under `registration`, or under a new one. What it replaces is handed back, to be dropped
    /// without the lock: the drop of a waker may be the end of a task, and that the drop of a lease.
    pub(super) fn register(
        &mut self,
        topic: Topic,
        registration: &mut Option<u64>,
        waker: Waker,
    ) -> Option<Waker> {
        let id = *registration.get_or_insert_with(|| {
            self.next_registration += 1;
            self.next_registration
        });
        self.wakers.insert((topic, id), waker)
    }

    pub(super) fn deregister(&mut self, topic: Topic, registration: u64) -> Option<Waker> {
        self.wakers.remove(&(topic, registration))
    }
}
