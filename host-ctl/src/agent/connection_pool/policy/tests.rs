//! Whatever happens, in whatever order: the policy does what the naive model does, keeps its promises and strands
//! nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use super::model::{Model, Status, word};
use super::*;

/// Small, so that they are reached.
const LIMITS: Limits = Limits { targets: 3, connections: 5, waiters: 6 };

/// Something happens; an index picks one of those it can happen to.
#[derive(Debug, Clone)]
enum Event {
    Acquire { vm: u8, generation: u64 },
    Cancel(Index),
    Dialed(Index),
    Failed(Index),
    Released(Index),
    Expired(Index),
    Poisoned(Index),
    Closed(Index),
    Superseded { vm: u8, generation: u64 },
    Later(u64),
    Shut,
    Cut,
}

fn event() -> impl Strategy<Value = Event> {
    let index = any::<Index>;
    let generation = || prop_oneof![9 => Just(1_u64), 1 => 0..3_u64];
    prop_oneof![
        8 => (0..5_u8, generation()).prop_map(|(vm, generation)| Event::Acquire { vm, generation }),
        2 => index().prop_map(Event::Cancel),
        6 => index().prop_map(Event::Dialed),
        1 => index().prop_map(Event::Failed),
        6 => index().prop_map(Event::Released),
        2 => index().prop_map(Event::Expired),
        1 => index().prop_map(Event::Poisoned),
        5 => index().prop_map(Event::Closed),
        1 => (0..5_u8, generation()).prop_map(|(vm, generation)| Event::Superseded { vm, generation }),
        4 => (1..8_u64).prop_map(Event::Later),
    ]
}

/// The policy and the model, told the same, and the books of what they answered.
struct Pair {
    policy: Policy,
    model: Model,
    now: Moment,
    asked: u64,
    /// Who waits, by ticket.
    waiting: BTreeMap<Ticket, Key>,
    /// A connection once for each that holds it.
    leases: Vec<ConnectionId>,
}

impl Pair {
    fn new(ttl: Duration) -> Pair {
        Pair {
            policy: Policy::new(LIMITS, ttl),
            model: Model::new(LIMITS, ttl),
            now: Duration::ZERO,
            asked: 0,
            waiting: BTreeMap::new(),
            leases: Vec::new(),
        }
    }

    fn links(&self, which: impl Fn(&Status) -> bool) -> Vec<ConnectionId> {
        self.model.links.iter().filter(|link| which(&link.status)).map(|link| link.id).collect()
    }

    fn happen(&mut self, event: &Event) {
        let dialing = self.links(|status| matches!(status, Status::Dialing(_)));
        let closing = self.links(|status| *status == Status::Closing);
        let open = self.links(|status| matches!(status, Status::Open(_)));
        let now = self.now;
        let key = |vm: u8, generation| Key::new(vm.to_string(), Generation(generation));
        match event {
            Event::Acquire { vm, generation } => self.acquire(&key(*vm, *generation)),
            Event::Cancel(index) => {
                let waiting: Vec<_> = self.waiting.keys().copied().collect();
                pick(index, &waiting).into_iter().for_each(|ticket| self.cancel(ticket));
            }
            Event::Dialed(index) => {
                // A driver may come with a connection that it has been told to close.
                let arriving = [dialing, closing].concat();
                self.each(pick(index, &arriving), |p, id| p.dialed(id, now), |m, id| m.dialed(id, now));
            }
            Event::Failed(index) => {
                self.each(pick(index, &dialing), |p, id| p.failed(id, now), |m, id| m.failed(id, now));
            }
            Event::Released(index) => {
                let lease = pick(index, &self.leases);
                if let Some(place) = self.leases.iter().position(|id| Some(*id) == lease) {
                    self.leases.remove(place);
                }
                self.each(lease, |p, id| p.released(id, now), |m, id| m.released(id, now));
            }
            Event::Expired(index) => {
                let due: Vec<_> = self.model.links.iter().filter(|link| link.expires <= now).collect();
                let due: Vec<_> = due.into_iter().map(|link| link.id).collect();
                self.each(pick(index, &due), |p, id| p.expired(id, now), |m, id| m.expired(id, now));
            }
            Event::Poisoned(index) => {
                let reason = Poison::Transport;
                let any = [open, closing].concat();
                self.each(
                    pick(index, &any),
                    |p, id| p.poison(id, reason, now),
                    |m, id| m.poison(id, reason, now),
                );
            }
            Event::Closed(index) => {
                self.each(pick(index, &closing), |p, id| p.closed(id, now), |m, id| m.closed(id, now));
            }
            Event::Superseded { vm, generation } => {
                let key = key(*vm, *generation);
                let effects = (self.policy.supersede(&key, now), self.model.supersede(&key, now));
                self.agree(effects);
            }
            Event::Later(seconds) => self.now += Duration::from_secs(*seconds),
            Event::Shut => {
                let effects = (self.policy.shut(now), self.model.shut(now));
                self.agree(effects);
            }
            Event::Cut => {
                let effects = (self.policy.cut(now), self.model.cut(now));
                self.agree(effects);
            }
        }
    }

    fn acquire(&mut self, key: &Key) {
        let ticket = Ticket(self.asked);
        self.asked += 1;
        self.waiting.insert(ticket, key.clone());
        let effects = (self.policy.acquire(ticket, key, self.now), self.model.acquire(ticket, key, self.now));
        self.agree(effects);
    }

    fn cancel(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
        let (policy, model) = (self.policy.cancel(ticket, self.now), self.model.cancel(ticket, self.now));
        assert_eq!(word(policy.0), model.0);
        self.agree((policy.1, model.1));
    }

    fn each(
        &mut self,
        id: Option<ConnectionId>,
        policy: impl Fn(&mut Policy, ConnectionId) -> Vec<Effect>,
        model: impl Fn(&mut Model, ConnectionId) -> Vec<Effect>,
    ) {
        if let Some(id) = id {
            let effects = (policy(&mut self.policy, id), model(&mut self.model, id));
            self.agree(effects);
        }
    }

    /// Both did the same, and kept the promises that need no model to be checked.
    fn agree(&mut self, (policy, model): (Vec<Effect>, Vec<Effect>)) {
        assert_eq!(sorted(&policy), sorted(&model));
        for effect in &policy {
            match effect {
                Effect::Grant { ticket, id } => {
                    let key = self.waiting.remove(ticket).expect("a grant is for one who waits");
                    let link = self.model.links.iter().find(|link| link.id == *id);
                    assert_eq!(link.map(|link| &link.key), Some(&key));
                    self.leases.push(*id);
                }
                Effect::Refuse { ticket, .. } => assert!(self.waiting.remove(ticket).is_some()),
                Effect::Dial { .. } | Effect::Poison { .. } | Effect::Close { .. } => {}
            }
        }
        let targets: std::collections::BTreeSet<_> = self.model.links.iter().map(|link| &link.key).collect();
        assert!(targets.len() <= LIMITS.targets);
        assert!(self.policy.connections.len() <= LIMITS.connections);
        assert!(self.waiting.len() <= LIMITS.waiters);
        assert_eq!(self.policy.connections.len(), self.model.links.len());
    }

    /// No connection that somebody holds is being closed.
    fn spares_holders(&self) -> bool {
        let closing = self.links(|status| *status == Status::Closing);
        !self.leases.iter().any(|id| closing.contains(id))
    }

    /// Lets everything under way come to its end, and new things that come of it.
    fn finish(&mut self) {
        for _ in 0..1_000 {
            let now = self.now;
            let dialing = self.links(|status| matches!(status, Status::Dialing(_)));
            for id in dialing {
                self.each(Some(id), |p, id| p.dialed(id, now), |m, id| m.dialed(id, now));
            }
            for id in std::mem::take(&mut self.leases) {
                self.each(Some(id), |p, id| p.released(id, now), |m, id| m.released(id, now));
            }
            for id in self.links(|status| *status == Status::Closing) {
                self.each(Some(id), |p, id| p.closed(id, now), |m, id| m.closed(id, now));
            }
            if self.waiting.is_empty() && self.leases.is_empty() && self.links(busy).is_empty() {
                return;
            }
        }
        panic!("{} wait for ever", self.waiting.len());
    }
}

fn busy(status: &Status) -> bool {
    matches!(status, Status::Dialing(_) | Status::Closing)
}

fn pick<T: Copy>(index: &Index, from: &[T]) -> Option<T> {
    (!from.is_empty()).then(|| *index.get(from))
}

fn sorted(effects: &[Effect]) -> Vec<String> {
    let mut effects: Vec<_> = effects.iter().map(|effect| format!("{effect:?}")).collect();
    effects.sort();
    effects
}

fn ttl() -> impl Strategy<Value = Duration> {
    prop_oneof![3 => Just(Duration::from_secs(20)), 1 => Just(Duration::ZERO)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_does_what_the_naive_model_does_and_strands_nobody(
        ttl in ttl(),
        events in prop::collection::vec(event(), 0..120),
    ) {
        let mut pair = Pair::new(ttl);
        for event in &events {
            pair.happen(event);
            prop_assert!(pair.spares_holders(), "after {event:?}");
        }
        pair.finish();
    }

    #[test]
    fn a_pool_that_is_shut_and_cut_ends_with_nothing(
        ttl in ttl(),
        events in prop::collection::vec(event(), 0..60),
        late in prop::collection::vec(event(), 0..20),
    ) {
        let mut pair = Pair::new(ttl);
        events.iter().chain([&Event::Shut]).chain(&late).chain([&Event::Cut]).for_each(|event| pair.happen(event));
        prop_assert!(pair.waiting.is_empty());
        pair.finish();
        prop_assert!(pair.policy.drained());
    }
}
