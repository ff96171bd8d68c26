//! Decides who gets which connection. No lock, no clock and no descriptor in here: events go in, effects come out.
//!
//! ```text
//!               dialed                 last release, evicted, poisoned, shut
//!  Dialing ───────────────► Open ────────────────────────────────────────────► Closing ──closed──► gone
//!     │                                                                           ▲
//!     └───────────────────── failed, superseded, shut ────────────────────────────┘
//! ```
//!
//! A connection is *fresh* while new callers may join it: not expired, not poisoned. There is at most one fresh
//! connection to a target. An `Open` one that is not fresh serves its holders to their end and is closed after the
//! last; one that is fresh and has no holder is *idle*, and the only kind that is ever evicted.

mod admission;
mod connection;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use self::connection::{Connection, Phase};
use super::error::{Limit, Poison};
use super::key::{Generation, Key};

/// A time, as the time since some beginning that the caller chose.
pub(super) type Moment = Duration;

/// A caller, from its acquire until it was given a connection or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(pub(super) u64);

/// A connection, from the start of its dial until it is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionId(pub(super) u64);

/// The bounds, as numbers so that tests can reach them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) targets: usize,
    pub(super) connections: usize,
    pub(super) waiters: usize,
}

/// What is to be done about an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Make a connection, and report `dialed` or `failed`, then `expire` at `expires`, and `closed` at the end.
    Dial { id: ConnectionId, key: Key, expires: Moment },
    /// The caller is a holder from now on; it will be `released`.
    Grant { ticket: Ticket, id: ConnectionId },
    /// The caller gets none.
    Refuse { ticket: Ticket, refusal: Refusal },
    /// Wake the holders.
    Poison { id: ConnectionId, poison: Poison },
    /// Close it, or stop making it, and report `closed`.
    Close { id: ConnectionId },
}

/// Why a caller gets no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    DialFailed { id: ConnectionId },
    Busy(Limit),
    Superseded { newer: Generation },
    Closed,
}

/// What a caller that gives up was waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaited {
    Dial,
    Room(Limit),
}

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    key: Key,
    /// What kept it waiting when last looked at.
    limit: Limit,
}

/// The state of a pool; see the module. Each event returns what is to be done about it, in order.
#[derive(Debug)]
pub(super) struct Policy {
    limits: Limits,
    ttl: Duration,
    connections: BTreeMap<ConnectionId, Connection>,
    queue: VecDeque<Waiter>,
    shut: bool,
    next_id: u64,
    uses: u64,
    effects: Vec<Effect>,
}

impl Policy {
    pub(super) fn new(limits: Limits, ttl: Duration) -> Policy {
        Policy {
            limits,
            ttl,
            connections: BTreeMap::new(),
            queue: VecDeque::new(),
            shut: false,
            next_id: 0,
            uses: 0,
            effects: Vec::new(),
        }
    }

    /// Whether the pool is shut and its last connection gone.
    pub(super) fn drained(&self) -> bool {
        self.shut && self.connections.is_empty()
    }

    /// A caller wants a connection to `key`.
    pub(super) fn acquire(&mut self, ticket: Ticket, key: &Key, now: Moment) -> Vec<Effect> {
        self.supersede_older(key);
        if let Some(refusal) = self.refusal(key) {
            self.effects.push(Effect::Refuse { ticket, refusal });
        } else {
            // A first guess: `serve` says what it really waits for, if it has to.
            let limit = Limit::Targets(self.limits.targets);
            self.queue.push_back(Waiter { ticket, key: key.clone(), limit });
        }
        let mut effects = self.serve(now);
        if self.waiting() > self.limits.waiters {
            let (_, undone) = self.cancel(ticket, now);
            effects.extend(undone);
            let refusal = Refusal::Busy(Limit::Waiters(self.limits.waiters));
            effects.push(Effect::Refuse { ticket, refusal });
        }
        effects
    }

    /// A caller gives up. `None`: it is not waiting any more, and may hold what it was granted.
    pub(super) fn cancel(&mut self, ticket: Ticket, now: Moment) -> (Option<Awaited>, Vec<Effect>) {
        let awaited = if let Some(place) = self.queue.iter().position(|waiter| waiter.ticket == ticket) {
            self.queue.remove(place).map(|waiter| Awaited::Room(waiter.limit))
        } else {
            self.connections.values_mut().any(|connection| connection.forget(ticket)).then_some(Awaited::Dial)
        };
        (awaited, self.serve(now))
    }

    /// `key` is heard of: what leads to an older boot of its VM is worthless.
    pub(super) fn supersede(&mut self, key: &Key, now: Moment) -> Vec<Effect> {
        self.supersede_older(key);
        self.serve(now)
    }

    /// The connection was made. Unless it is to be closed already, whoever waited for it holds it.
    pub(super) fn dialed(&mut self, id: ConnectionId, now: Moment) -> Vec<Effect> {
        self.uses += 1;
        if let Some(connection) = self.connections.get_mut(&id)
            && let Phase::Dialing { callers } = &mut connection.phase
        {
            let callers = std::mem::take(callers);
            connection.phase = Phase::Open { holders: callers.len(), poison: None };
            connection.fresh &= now < connection.expires;
            connection.last_use = self.uses;
            self.effects.extend(callers.into_iter().map(|ticket| Effect::Grant { ticket, id }));
            self.close_if_spent(id);
        }
        self.serve(now)
    }

    /// There will be no connection. `closed` is still to come.
    pub(super) fn failed(&mut self, id: ConnectionId, now: Moment) -> Vec<Effect> {
        self.stop_dialing(id, Refusal::DialFailed { id });
        self.serve(now)
    }

    /// One holder less.
    pub(super) fn released(&mut self, id: ConnectionId, now: Moment) -> Vec<Effect> {
        self.uses += 1;
        if let Some(connection) = self.connections.get_mut(&id)
            && let Phase::Open { holders, .. } = &mut connection.phase
        {
            *holders = holders.saturating_sub(1);
            connection.fresh &= now < connection.expires;
            connection.last_use = self.uses;
            self.close_if_spent(id);
        }
        self.serve(now)
    }

    /// The TTL has passed: nobody is to join it, and if nobody holds it, it is closed.
    pub(super) fn expired(&mut self, id: ConnectionId, now: Moment) -> Vec<Effect> {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.fresh = false;
            self.close_if_spent(id);
        }
        self.serve(now)
    }

    /// It is not to be used any more. The first reason given is the one that stands.
    pub(super) fn poison(&mut self, id: ConnectionId, poison: Poison, now: Moment) -> Vec<Effect> {
        self.spoil(id, poison);
        self.serve(now)
    }

    /// The connection is gone, and whoever made it with it.
    pub(super) fn closed(&mut self, id: ConnectionId, now: Moment) -> Vec<Effect> {
        // Only when its driver was dropped half-way does this find anybody who waits or holds.
        self.stop_dialing(id, Refusal::Closed);
        self.spoil(id, Poison::Closed);
        self.connections.remove(&id);
        self.serve(now)
    }

    /// The pool takes no more callers. Those who hold a connection may finish.
    pub(super) fn shut(&mut self, now: Moment) -> Vec<Effect> {
        self.shut = true;
        let waiters = self.queue.drain(..);
        self.effects
            .extend(waiters.map(|waiter| Effect::Refuse { ticket: waiter.ticket, refusal: Refusal::Closed }));
        for id in self.ids() {
            self.stop_dialing(id, Refusal::Closed);
            self.retire(id);
        }
        self.serve(now)
    }

    /// The pool waits for no holder any more.
    pub(super) fn cut(&mut self, now: Moment) -> Vec<Effect> {
        for id in self.ids() {
            self.spoil(id, Poison::Closed);
            self.close(id);
        }
        self.serve(now)
    }

    /// Callers without an answer: those in line, and those whose dial is under way.
    fn waiting(&self) -> usize {
        self.queue.len() + self.connections.values().map(Connection::callers).sum::<usize>()
    }

    fn ids(&self) -> Vec<ConnectionId> {
        self.connections.keys().copied().collect()
    }

    fn refusal(&self, key: &Key) -> Option<Refusal> {
        if self.shut {
            return Some(Refusal::Closed);
        }
        let connected = self.connections.values().map(|connection| &connection.key);
        let waited_for = self.queue.iter().map(|waiter| &waiter.key);
        let newer = connected.chain(waited_for).filter(|other| key.is_older_than(other));
        newer.map(|other| other.generation).max().map(|newer| Refusal::Superseded { newer })
    }

    fn supersede_older(&mut self, key: &Key) {
        let refusal = Refusal::Superseded { newer: key.generation };
        let effects = &mut self.effects;
        self.queue.retain(|waiter| {
            let older = waiter.key.is_older_than(key);
            if older {
                effects.push(Effect::Refuse { ticket: waiter.ticket, refusal });
            }
            !older
        });
        let older = self.connections.iter().filter(|(_, connection)| connection.key.is_older_than(key));
        for id in older.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.stop_dialing(id, refusal);
            self.spoil(id, Poison::Superseded);
        }
    }

    /// Ends a dial under way for all who wait for it; anything else stays as it is.
    fn stop_dialing(&mut self, id: ConnectionId, refusal: Refusal) {
        if let Some(connection) = self.connections.get_mut(&id)
            && let Phase::Dialing { callers } = &mut connection.phase
        {
            let callers = std::mem::take(callers);
            self.effects.extend(callers.into_iter().map(|ticket| Effect::Refuse { ticket, refusal }));
            self.close(id);
        }
    }

    /// Poisons an open connection; anything else stays as it is.
    fn spoil(&mut self, id: ConnectionId, reason: Poison) {
        if let Some(connection) = self.connections.get_mut(&id)
            && let Phase::Open { poison: poison @ None, .. } = &mut connection.phase
        {
            *poison = Some(reason);
            self.effects.push(Effect::Poison { id, poison: reason });
            self.retire(id);
        }
    }

    /// Lets nobody join any more.
    fn retire(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.fresh = false;
            self.close_if_spent(id);
        }
    }

    fn close_if_spent(&mut self, id: ConnectionId) {
        if self.connections.get(&id).is_some_and(Connection::spent) {
            self.close(id);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.closing()
        {
            connection.phase = Phase::Closing;
            connection.fresh = false;
            self.effects.push(Effect::Close { id });
        }
    }
}
