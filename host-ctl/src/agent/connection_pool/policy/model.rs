//! The policy once more, as naive as can be: flat lists, every question answered by looking at all of them, and
//! one rule applied at a time until none applies.

use std::collections::BTreeSet;

use super::{Awaited, ConnectionId, Effect, Key, Limit, Limits, Moment, Poison, Refusal, Ticket};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Status {
    Dialing(Vec<Ticket>),
    /// How many hold it.
    Open(usize),
    Closing,
}

#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) id: ConnectionId,
    pub(super) key: Key,
    pub(super) status: Status,
    pub(super) expires: Moment,
    joinable: bool,
    poisoned: bool,
    last_use: usize,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) limits: Limits,
    pub(super) ttl: Moment,
    pub(super) links: Vec<Link>,
    pub(super) line: Vec<(Ticket, Key)>,
    shut: bool,
    made: u64,
    steps: usize,
    effects: Vec<Effect>,
}

impl Model {
    pub(super) fn new(limits: Limits, ttl: Moment) -> Model {
        Model { limits, ttl, links: vec![], line: vec![], shut: false, made: 0, steps: 0, effects: vec![] }
    }

    pub(super) fn acquire(&mut self, ticket: Ticket, key: &Key, now: Moment) -> Vec<Effect> {
        self.older_than(key);
        let known = self.links.iter().map(|link| &link.key).chain(self.line.iter().map(|(_, key)| key));
        let newest = known.filter(|other| other.vm == key.vm).map(|other| other.generation).max();
        if self.shut {
            self.refuse(ticket, Refusal::Closed);
        } else if let Some(newer) = newest.filter(|newest| *newest > key.generation) {
            self.refuse(ticket, Refusal::Superseded { newer });
        } else {
            self.line.push((ticket, key.clone()));
        }
        let mut effects = self.settle(now);
        let dials = self.links.iter().map(|link| match &link.status {
            Status::Dialing(callers) => callers.len(),
            Status::Open(_) | Status::Closing => 0,
        });
        if dials.sum::<usize>() + self.line.len() > self.limits.waiters {
            effects.extend(self.cancel(ticket, now).1);
            let refusal = Refusal::Busy(Limit::Waiters(self.limits.waiters));
            effects.push(Effect::Refuse { ticket, refusal });
        }
        effects
    }

    /// Only whether it waited for a dial or for room: which room is a detail.
    pub(super) fn cancel(&mut self, ticket: Ticket, now: Moment) -> (Option<&'static str>, Vec<Effect>) {
        let mut awaited = self.line.iter().any(|(other, _)| *other == ticket).then_some("room");
        self.line.retain(|(other, _)| *other != ticket);
        for link in &mut self.links {
            if let Status::Dialing(callers) = &mut link.status
                && callers.contains(&ticket)
            {
                callers.retain(|other| *other != ticket);
                awaited = Some("dial");
            }
        }
        (awaited, self.settle(now))
    }

    pub(super) fn supersede(&mut self, key: &Key, now: Moment) -> Vec<Effect> {
        self.older_than(key);
        self.settle(now)
    }

    pub(super) fn dialed(&mut self, id: ConnectionId, now: Moment) -> Vec<Effect> {
        self.steps += 1;
        let steps = self.steps;
        if let Some(link) = self.links.iter_mut().find(|link| link.id == id)
            && let Status::Dialing(callers) = link.status.clone()
        {
            link.status = Status::Open(callers.len());
            link.joinable = link.joinable && now < link.expires;
            link.last_use = steps;
            self.effects.extend(callers.into_iter().map(|ticket| Effect::Grant { ticket, id }));
        }
        self.settle(now)
    }

    pub(super) fn failed(&mut self, id: ConnectionId, now: Moment) -> Vec<Effect> {
        self.end_dial(id, Refusal::DialFailed { id });
        self.settle(now)
    }

    pub(super) fn released(&mut self, id: ConnectionId, now: Moment) -> Vec<Effect> {
        self.steps += 1;
        let steps = self.steps;
        if let Some(link) = self.links.iter_mut().find(|link| link.id == id)
            && let Status::Open(holders) = link.status
        {
            link.status = Status::Open(holders - 1);
            link.joinable = link.joinable && now < link.expires;
            link.last_use = steps;
        }
        self.settle(now)
    }

    pub(super) fn expired(&mut self, id: ConnectionId, now: Moment) -> Vec<Effect> {
        self.links.iter_mut().filter(|link| link.id == id).for_each(|link| link.joinable = false);
        self.settle(now)
    }

    pub(super) fn poison(&mut self, id: ConnectionId, poison: Poison, now: Moment) -> Vec<Effect> {
        self.spoil(id, poison);
        self.settle(now)
    }

    pub(super) fn closed(&mut self, id: ConnectionId, now: Moment) -> Vec<Effect> {
        self.links.retain(|link| link.id != id);
        self.settle(now)
    }

    pub(super) fn shut(&mut self, now: Moment) -> Vec<Effect> {
        self.shut = true;
        for (ticket, _) in std::mem::take(&mut self.line) {
            self.refuse(ticket, Refusal::Closed);
        }
        for id in self.links.iter().map(|link| link.id).collect::<Vec<_>>() {
            self.end_dial(id, Refusal::Closed);
        }
        self.links.iter_mut().for_each(|link| link.joinable = false);
        self.settle(now)
    }

    pub(super) fn cut(&mut self, now: Moment) -> Vec<Effect> {
        for id in self.links.iter().map(|link| link.id).collect::<Vec<_>>() {
            self.spoil(id, Poison::Closed);
            self.close(id);
        }
        self.settle(now)
    }

    fn settle(&mut self, now: Moment) -> Vec<Effect> {
        while self.close_what_is_spent() || self.admit_first(now) || self.evict_one(now) {}
        std::mem::take(&mut self.effects)
    }

    fn close_what_is_spent(&mut self) -> bool {
        let spent = self.links.iter().find(|link| link.status == Status::Open(0) && !link.joinable);
        let id = spent.map(|link| link.id);
        id.inspect(|id| self.close(*id)).is_some()
    }

    /// The first in line to whom anything can be given gets it.
    fn admit_first(&mut self, now: Moment) -> bool {
        let slotless = self.slotless();
        for (place, (ticket, key)) in self.line.clone().into_iter().enumerate() {
            if let Some(link) = self.links.iter_mut().find(|link| link.key == key && link.joinable) {
                if link.expires <= now {
                    link.joinable = false;
                    return true;
                }
                if let Status::Dialing(callers) = &mut link.status {
                    callers.push(ticket);
                } else if let Status::Open(holders) = &mut link.status {
                    *holders += 1;
                    self.effects.push(Effect::Grant { ticket, id: link.id });
                }
                self.line.remove(place);
                return true;
            }
            let has_any = self.links.iter().any(|link| link.key == key);
            let first = slotless.first() == Some(&key);
            let slot =
                !slotless.contains(&key) || (first && (has_any || self.targets() < self.limits.targets));
            if slot && self.links.len() < self.limits.connections {
                self.line.remove(place);
                self.dial(ticket, key, now);
                return true;
            }
        }
        false
    }

    fn evict_one(&mut self, now: Moment) -> bool {
        let live: BTreeSet<_> = self.live().map(|link| link.key.clone()).collect();
        if live.len() + self.slotless().len() <= self.limits.targets {
            return false;
        }
        let alone = |link: &&Link| self.live().filter(|other| other.key == link.key).count() == 1;
        let idle = self.live().filter(|link| link.status == Status::Open(0)).filter(alone);
        let worst = idle.min_by_key(|link| (link.expires > now, link.last_use)).map(|link| link.id);
        worst.inspect(|id| self.close(*id)).is_some()
    }

    fn dial(&mut self, ticket: Ticket, key: Key, now: Moment) {
        let (id, expires) = (ConnectionId(self.made), now + self.ttl);
        self.made += 1;
        self.effects.push(Effect::Dial { id, key: key.clone(), expires });
        let (status, joinable) = (Status::Dialing(vec![ticket]), !self.ttl.is_zero());
        self.links.push(Link { id, key, status, expires, joinable, poisoned: false, last_use: self.steps });
    }

    fn older_than(&mut self, key: &Key) {
        let refusal = Refusal::Superseded { newer: key.generation };
        for (ticket, _) in self.line.extract_if(.., |(_, other)| other.is_older_than(key)).collect::<Vec<_>>()
        {
            self.refuse(ticket, refusal);
        }
        for link in self.links.clone().into_iter().filter(|link| link.key.is_older_than(key)) {
            self.end_dial(link.id, refusal);
            self.spoil(link.id, Poison::Superseded);
        }
    }

    fn end_dial(&mut self, id: ConnectionId, refusal: Refusal) {
        let link = self.links.iter().find(|link| link.id == id).cloned();
        if let Some(Link { status: Status::Dialing(callers), .. }) = link {
            callers.into_iter().for_each(|ticket| self.refuse(ticket, refusal));
            self.close(id);
        }
    }

    fn spoil(&mut self, id: ConnectionId, poison: Poison) {
        if let Some(link) = self.links.iter_mut().find(|link| link.id == id)
            && matches!(link.status, Status::Open(_))
            && !link.poisoned
        {
            (link.poisoned, link.joinable) = (true, false);
            self.effects.push(Effect::Poison { id, poison });
        }
    }

    fn close(&mut self, id: ConnectionId) {
        if let Some(link) = self.links.iter_mut().find(|link| link.id == id && link.status != Status::Closing)
        {
            (link.status, link.joinable) = (Status::Closing, false);
            self.effects.push(Effect::Close { id });
        }
    }

    fn refuse(&mut self, ticket: Ticket, refusal: Refusal) {
        self.effects.push(Effect::Refuse { ticket, refusal });
    }

    fn live(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(|link| link.status != Status::Closing)
    }

    fn targets(&self) -> usize {
        self.links.iter().map(|link| &link.key).collect::<BTreeSet<_>>().len()
    }

    /// What is waited for and has no slot to keep, each once, in the order of the line.
    fn slotless(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = Vec::new();
        for (_, key) in &self.line {
            if !keys.contains(key) && !self.live().any(|link| link.key == *key) {
                keys.push(key.clone());
            }
        }
        keys
    }
}

/// What [`Model::cancel`] says, from what the policy says.
pub(super) fn word(awaited: Option<Awaited>) -> Option<&'static str> {
    awaited.map(|awaited| match awaited {
        Awaited::Dial => "dial",
        Awaited::Room(_) => "room",
    })
}
