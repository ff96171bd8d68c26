//! The simulated world: callers that come and go, and work that takes its time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::truth::Truth;
use super::{Outcome, Scenario};
use crate::pool::policy::{Effect, Job, LeaseId, MemberId, Moment, Policy, Ticket};
use crate::pool::random::Random;

/// How often a burst comes, on average.
const BETWEEN_BURSTS: Duration = Duration::from_secs(60);

/// A host that has been up for a while.
const START: Moment = Moment::from_secs(1_000);

/// Steps after which a simulation is stopped: a policy that wakes and does nothing would go on for ever.
const MAX_STEPS: u64 = 200_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Caller,
    Burst,
    Ended { vm: MemberId, job: Job, well: bool },
    GivesBack { lease: LeaseId },
    Drain,
}

struct World<'a> {
    scenario: &'a Scenario,
    policy: Policy,
    truth: Truth,
    random: Random,
    /// What happens when; the number keeps the order of what happens at the same instant.
    agenda: BTreeMap<(Moment, u64), Happening>,
    next: u64,
    waits: Vec<Duration>,
}

/// Lets a pool go through `scenario`, to the end of its drain.
#[must_use]
pub fn run(scenario: &Scenario) -> Outcome {
    let mut world = World {
        scenario,
        policy: Policy::new(scenario.bounds, scenario.seed),
        truth: Truth::new(scenario.bounds.max),
        random: Random::new(scenario.seed),
        agenda: BTreeMap::new(),
        next: 0,
        waits: Vec::new(),
    };
    let effects = world.policy.tick(START);
    world.carry_out(effects, START);
    // The pool is filled before the first caller comes.
    let open = START + scenario.work.make * 20;
    world.at(open, Happening::Caller);
    if scenario.burst > 0 {
        world.at(open + BETWEEN_BURSTS, Happening::Burst);
    }
    world.at(open + scenario.duration, Happening::Drain);
    let drained_at = world.live(open + scenario.duration);
    world.waits.sort_unstable();
    Outcome {
        waits: world.waits,
        counts: world.policy.status(drained_at).counts,
        most_vms: world.truth.most_vms,
        broken: world.truth.broken,
        drained_at,
    }
}

impl World<'_> {
    fn live(&mut self, closes: Moment) -> Moment {
        let mut now = START;
        for _ in 0..MAX_STEPS {
            if self.policy.drained() {
                break;
            }
            let wake = self.policy.next_wake();
            let next = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let Some(at) = wake.into_iter().chain(next).min() else { break };
            now = now.max(at);
            let due = next.filter(|next| *next <= now).and_then(|_| self.agenda.pop_first());
            let effects = match due {
                Some((_, happening)) => self.happen(happening, now, closes),
                None => self.policy.tick(now),
            };
            self.carry_out(effects, now);
        }
        self.truth.at_the_end(now);
        now
    }

    fn at(&mut self, at: Moment, happening: Happening) {
        self.next += 1;
        self.agenda.insert((at, self.next), happening);
    }

    fn happen(&mut self, happening: Happening, now: Moment, closes: Moment) -> Vec<Effect> {
        match happening {
            Happening::Caller => {
                let next = now + self.about(self.scenario.between_callers);
                if next < closes {
                    self.at(next, Happening::Caller);
                }
                self.ask(now)
            }
            Happening::Burst => {
                let next = now + self.about(BETWEEN_BURSTS);
                if next < closes {
                    self.at(next, Happening::Burst);
                }
                (0..self.scenario.burst).flat_map(|_| self.ask(now)).collect()
            }
            Happening::Ended { vm, job, well } => {
                self.truth.work_ended(vm);
                match job {
                    Job::Prove if well => self.truth.proved(vm),
                    Job::Check if well => self.truth.answered(vm),
                    Job::Destroy if well => self.truth.destroyed(vm),
                    Job::Make | Job::Reset | Job::Prove | Job::Check | Job::Destroy => {}
                }
                self.policy.finished(vm, job, well, now)
            }
            Happening::GivesBack { lease } => {
                if !self.truth.holds(lease) {
                    return Vec::new();
                }
                self.truth.let_go(lease);
                self.policy.release(lease.vm, Some(lease), now).1
            }
            Happening::Drain => self.policy.drain(now),
        }
    }

    fn ask(&mut self, now: Moment) -> Vec<Effect> {
        self.next += 1;
        let (ticket, deadline) = (Ticket(self.next), now + self.scenario.patience);
        self.truth.asked(ticket, now, deadline);
        // A holder that is alive renews long before; this one only has to outlast it.
        self.policy.acquire(ticket, self.scenario.hold * 20, deadline, now)
    }

    fn carry_out(&mut self, effects: Vec<Effect>, now: Moment) {
        for effect in effects {
            match effect {
                Effect::Record(_) => {}
                Effect::Work { vm, job } => self.begin(vm, job, now),
                Effect::Grant { ticket, lease, .. } => {
                    self.waits.extend(self.truth.granted(ticket, lease, now));
                    let held = self.about(self.scenario.hold).min(self.scenario.hold * 10);
                    if !self.random.happens(self.scenario.crashes) {
                        self.at(now + held, Happening::GivesBack { lease });
                    }
                }
                Effect::Refuse { ticket, .. } => self.truth.refused(ticket, now),
                Effect::Expired { lease } => self.truth.let_go(lease),
            }
        }
    }

    fn begin(&mut self, vm: MemberId, job: Job, now: Moment) {
        let times = &self.scenario.work;
        let failures = self.scenario.failures;
        let (time, failures) = match job {
            Job::Make => (times.make, failures),
            Job::Reset => (times.reset, failures),
            Job::Prove => (times.check, failures / 10),
            Job::Check => (times.check, failures / 10),
            Job::Destroy => (times.destroy, failures / 10),
        };
        self.truth.work_begins(vm, job == Job::Make);
        if job == Job::Reset {
            self.truth.soiled(vm);
        }
        let slow = if self.random.happens(times.slow) { 10 } else { 1 };
        let time = (time + time / 256 * self.random.below(128)) * slow;
        let well = !self.random.happens(failures);
        self.at(now + time, Happening::Ended { vm, job, well });
    }

    /// A time that is `mean` on average and has no memory.
    fn about(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-self.random.fraction().ln())
    }
}
