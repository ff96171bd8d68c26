//! Who is let in, and who has to go for it.
//!
//! A target *has a slot* as long as it has any connection, even one that is being closed. Callers for a target
//! that has one need none, so dialling an expired target again takes nothing from its neighbours. Callers for
//! other targets wait in one queue, first come, first served: as long as one of them waits, a slot that comes free
//! is for the queue, and the target that just lost it stands in line like any other.

use std::collections::BTreeSet;

use super::connection::{Connection, Phase};
use super::{ConnectionId, Effect, Key, Limit, Moment, Policy, Ticket, Waiter};

impl Policy {
    /// Lets in whom it can, makes room for whom it cannot, and hands over the effects of the event.
    pub(super) fn serve(&mut self, now: Moment) -> Vec<Effect> {
        let mut without_slot = BTreeSet::new();
        for waiter in std::mem::take(&mut self.queue) {
            if let Err(limit) = self.admit(&waiter, !without_slot.is_empty(), now) {
                if !self.is_live(&waiter.key) {
                    without_slot.insert(waiter.key.clone());
                }
                self.queue.push_back(Waiter { limit, ..waiter });
            }
        }
        self.make_room(without_slot.len(), now);
        std::mem::take(&mut self.effects)
    }

    fn admit(&mut self, waiter: &Waiter, others_first: bool, now: Moment) -> Result<(), Limit> {
        self.retire_expired(&waiter.key, now);
        if self.join(waiter) {
            return Ok(());
        }
        self.room(&waiter.key, others_first)?;
        self.dial(&waiter.key, waiter.ticket, now);
        Ok(())
    }

    fn retire_expired(&mut self, key: &Key, now: Moment) {
        let fresh = self.fresh(key).filter(|(_, connection)| connection.expires <= now);
        if let Some(id) = fresh.map(|(id, _)| id) {
            self.retire(id);
        }
    }

    /// Makes the caller a holder of the target's fresh connection, or one of those who wait for it.
    fn join(&mut self, waiter: &Waiter) -> bool {
        let Some(id) = self.fresh(&waiter.key).map(|(id, _)| id) else { return false };
        let Some(connection) = self.connections.get_mut(&id) else { return false };
        match &mut connection.phase {
            Phase::Dialing { callers } => callers.push(waiter.ticket),
            Phase::Open { holders, .. } => {
                *holders += 1;
                self.effects.push(Effect::Grant { ticket: waiter.ticket, id });
            }
            Phase::Closing => return false,
        }
        true
    }

    fn room(&self, key: &Key, others_first: bool) -> Result<(), Limit> {
        if self.connections.len() >= self.limits.connections {
            return Err(Limit::Connections(self.limits.connections));
        }
        let may_take_slot = || self.of(key).next().is_some() || self.targets() < self.limits.targets;
        if self.is_live(key) || (!others_first && may_take_slot()) {
            Ok(())
        } else {
            Err(Limit::Targets(self.limits.targets))
        }
    }

    fn dial(&mut self, key: &Key, ticket: Ticket, now: Moment) {
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        let expires = now.saturating_add(self.ttl);
        let connection = Connection {
            key: key.clone(),
            phase: Phase::Dialing { callers: vec![ticket] },
            expires,
            // With a TTL of zero nobody ever joins: the connection is the first caller's alone.
            fresh: !self.ttl.is_zero(),
            last_use: self.uses,
        };
        self.connections.insert(id, connection);
        self.effects.push(Effect::Dial { id, key: key.clone(), expires });
    }

    /// Evicts idle targets until `wanted` slots are free or about to be, or none is idle.
    fn make_room(&mut self, wanted: usize, now: Moment) {
        for _ in self.limits.targets.saturating_sub(self.live_targets())..wanted {
            let idle = self.connections.iter().filter(|(_, connection)| self.is_idle_target(connection));
            // An expired one is of no use to anybody, however recently it was used.
            let worst = idle.min_by_key(|(_, connection)| (now < connection.expires, connection.last_use));
            let Some((&id, _)) = worst else { return };
            self.close(id);
        }
    }

    /// Whether `connection` is idle and all that keeps its target alive.
    fn is_idle_target(&self, connection: &Connection) -> bool {
        connection.idle() && self.of(&connection.key).filter(|other| !other.closing()).count() == 1
    }

    /// Whether the target's slot is not about to come free.
    fn is_live(&self, key: &Key) -> bool {
        self.of(key).any(|connection| !connection.closing())
    }

    fn fresh(&self, key: &Key) -> Option<(ConnectionId, &Connection)> {
        let mut all = self.connections.iter().map(|(id, connection)| (*id, connection));
        all.find(|(_, connection)| connection.fresh && connection.key == *key)
    }

    fn of(&self, key: &Key) -> impl Iterator<Item = &Connection> {
        self.connections.values().filter(move |connection| connection.key == *key)
    }

    fn targets(&self) -> usize {
        self.connections.values().map(|connection| &connection.key).collect::<BTreeSet<_>>().len()
    }

    fn live_targets(&self) -> usize {
        let live = self.connections.values().filter(|connection| !connection.closing());
        live.map(|connection| &connection.key).collect::<BTreeSet<_>>().len()
    }
}
