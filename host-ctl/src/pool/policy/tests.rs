//! Single rules by example, all of them at once against the naive model.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::model::Model;
use super::trouble::DEGRADED_AFTER;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

fn at(seconds: u64) -> Moment {
    Moment::from_secs(seconds)
}

fn bounds(min: usize, max: usize) -> Bounds {
    Bounds { min, max, parallel: max, waiters: 8, ..Bounds::default() }
}

/// A policy whose work is done the moment it is asked for, but for what the test wants to do itself.
struct Bench {
    policy: Policy,
    /// Work that is to fail.
    fails: Vec<Job>,
    told: Vec<Effect>,
}

impl Bench {
    fn new(bounds: Bounds) -> Bench {
        Bench { policy: Policy::new(bounds, 1), fails: vec![], told: vec![] }
    }

    fn run(&mut self, now: Moment, effects: Vec<Effect>) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            if let Effect::Work { vm, job } = effect {
                let well = !self.fails.contains(&job);
                effects.extend(self.policy.finished(vm, job, well, now));
            } else if !matches!(effect, Effect::Record(_)) {
                self.told.push(effect);
            }
        }
    }

    fn tick(&mut self, now: Moment) {
        let effects = self.policy.tick(now);
        self.run(now, effects);
    }

    fn acquire(&mut self, ticket: u64, now: Moment) {
        let effects = self.policy.acquire(Ticket(ticket), HOUR, now + SECOND, now);
        self.run(now, effects);
    }

    #[track_caller]
    fn granted(&mut self) -> LeaseId {
        match self.told.pop() {
            Some(Effect::Grant { lease, .. }) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn release(&mut self, lease: LeaseId, now: Moment) {
        let (result, effects) = self.policy.release(lease.vm, Some(lease), now);
        result.unwrap();
        self.run(now, effects);
    }

    fn phases(&self, name: &str) -> usize {
        self.policy.status(at(0)).phases[name]
    }
}

#[test]
fn it_fills_to_min_in_parallel_and_no_further() {
    let mut policy = Policy::new(Bounds { parallel: 2, ..bounds(3, 5) }, 1);
    let effects = policy.tick(at(1));
    let makes = effects.iter().filter(|effect| matches!(effect, Effect::Work { job: Job::Make, .. })).count();
    assert_eq!(makes, 2);
    let mut bench = Bench { policy, ..Bench::new(bounds(3, 5)) };
    bench.run(at(1), effects);
    assert_eq!(bench.phases("ready"), 3);
}

#[test]
fn a_vm_that_was_given_out_is_made_up_for_ahead_of_the_next_caller() {
    let mut bench = Bench::new(bounds(1, 3));
    bench.tick(at(1));
    bench.acquire(1, at(2));
    let lease = bench.granted();
    assert_eq!((bench.phases("ready"), bench.phases("leased")), (1, 1));
    bench.release(lease, at(3));
    assert_eq!((bench.phases("ready"), bench.policy.counts.reset), (2, 1));
}

#[test]
fn callers_get_vms_in_the_order_in_which_they_came_whoever_vm_is_ready_first() {
    let mut policy = Policy::new(bounds(0, 2), 1);
    policy.acquire(Ticket(1), HOUR, at(9), at(1));
    policy.acquire(Ticket(2), HOUR, at(9), at(1));
    for job in [Job::Make, Job::Prove] {
        policy.finished(MemberId(2), job, true, at(2));
    }
    let effects = policy.finished(MemberId(2), Job::Check, true, at(2));
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::Grant { ticket: Ticket(1), .. })),
        "{effects:?}"
    );
}

#[test]
fn a_vm_that_does_not_answer_is_destroyed_and_the_caller_keeps_its_place() {
    let mut bench = Bench::new(bounds(2, 2));
    bench.tick(at(1));
    let effects = bench.policy.acquire(Ticket(1), HOUR, at(9), at(2));
    let Some(Effect::Work { vm, job: Job::Check }) = effects.last().cloned() else { panic!("{effects:?}") };
    let effects = bench.policy.finished(vm, Job::Check, false, at(2));
    bench.run(at(2), effects);
    assert_ne!(bench.granted().vm, vm);
    assert!(!bench.policy.knows(vm));
}

#[test]
fn a_failed_reset_destroys_and_replaces_and_is_counted() {
    let mut bench = Bench::new(bounds(1, 1));
    bench.tick(at(1));
    bench.acquire(1, at(2));
    let lease = bench.granted();
    bench.fails = vec![Job::Reset];
    bench.release(lease, at(3));
    assert!(!bench.policy.knows(lease.vm));
    assert_eq!((bench.phases("ready"), bench.policy.counts.reset_failed), (1, 1));
}

#[test]
fn makes_that_fail_again_and_again_show_and_are_tried_one_at_a_time_ever_more_rarely() {
    let mut bench = Bench::new(bounds(4, 4));
    bench.fails = vec![Job::Make];
    let mut now = at(1);
    bench.tick(now);
    for _ in 0..20 {
        now = bench.policy.next_wake().unwrap();
        bench.tick(now);
    }
    let status = bench.policy.status(now);
    assert_eq!(status.degraded.len(), 1);
    assert!(status.degraded[0].failures > DEGRADED_AFTER);
    // At the longest wait by now: a minute holds no more than a few tries.
    let before = status.counts.make_failed;
    while bench.policy.next_wake().unwrap() < now + 60 * SECOND {
        let wake = bench.policy.next_wake().unwrap();
        bench.tick(wake);
    }
    let tries = bench.policy.counts.make_failed - before;
    assert!((1..=6).contains(&tries), "{tries} tries");
    bench.fails.clear();
    for _ in 0..8 {
        let wake = bench.policy.next_wake().unwrap();
        bench.tick(wake);
    }
    let status = bench.policy.status(now);
    assert_eq!((status.degraded.len(), status.phases["ready"]), (0, 4));
}

#[test]
fn while_resets_fail_vms_are_replaced_and_a_reset_is_tried_now_and_then() {
    let mut bench = Bench::new(bounds(1, 2));
    bench.fails = vec![Job::Reset];
    let mut now = at(1);
    bench.tick(now);
    for ticket in 0..u64::from(DEGRADED_AFTER) + 5 {
        bench.acquire(ticket, now);
        let lease = bench.granted();
        bench.release(lease, now);
    }
    // The last five were not even tried.
    assert_eq!(bench.policy.counts.reset_failed, u64::from(DEGRADED_AFTER));
    assert_eq!(bench.policy.status(now).degraded[0].job, Job::Reset);
    bench.fails.clear();
    now = bench.policy.resetting.retry_at;
    bench.acquire(100, now);
    let lease = bench.granted();
    bench.release(lease, now);
    assert_eq!(bench.policy.status(now).degraded, []);
}

#[test]
fn a_lease_that_expires_comes_back_and_its_holder_is_told_so() {
    let mut bench = Bench::new(bounds(1, 1));
    bench.tick(at(1));
    bench.acquire(1, at(2));
    let lease = bench.granted();
    bench.tick(at(2) + HOUR);
    assert_eq!(bench.told, [Effect::Expired { lease }]);
    assert_eq!(bench.policy.release(lease.vm, Some(lease), at(2) + HOUR).0, Err(LeaseError::NotLeased));
    bench.acquire(2, at(2) + HOUR);
    let second = bench.granted();
    assert_eq!(second.vm, lease.vm, "a reset keeps the VM");
    assert_eq!(bench.policy.release(lease.vm, Some(lease), at(3) + HOUR).0, Err(LeaseError::Stale));
}

#[test]
fn a_renewed_lease_lasts_from_the_renewal_on() {
    let mut bench = Bench::new(bounds(1, 1));
    bench.tick(at(1));
    bench.acquire(1, at(2));
    let lease = bench.granted();
    let until = bench.policy.renew(lease.vm, Some(lease), HOUR, at(1_000)).0;
    assert_eq!(until, Ok(at(1_000) + HOUR));
    bench.tick(at(2) + HOUR);
    assert_eq!(bench.phases("leased"), 1);
    bench.tick(at(1_000) + HOUR);
    assert_eq!(bench.phases("leased"), 0);
}

#[test]
fn a_worn_vm_is_replaced_and_uses_survive_resets() {
    let mut bench = Bench::new(Bounds { max_uses: 3, ..bounds(1, 1) });
    bench.tick(at(1));
    let mut vms = Vec::new();
    for ticket in 0..4 {
        bench.acquire(ticket, at(2));
        let lease = bench.granted();
        vms.push(lease.to_string());
        bench.release(lease, at(2));
    }
    assert_eq!(vms, ["1.1", "1.2", "1.3", "2.1"]);
}

#[test]
fn vms_made_together_are_replaced_one_after_the_other_and_none_after_its_age() {
    let limits = bounds(50, 60);
    let mut bench = Bench::new(Bounds { parallel: 50, ..limits });
    bench.tick(at(0));
    let first = MemberId(50);
    let old = |bench: &Bench| bench.policy.members.range(..=first).count();
    bench.tick(limits.max_age * 3 / 4);
    assert_eq!(old(&bench), 50);
    bench.tick(limits.max_age * 7 / 8);
    assert!((15..=35).contains(&old(&bench)), "{}", old(&bench));
    bench.tick(limits.max_age);
    assert_eq!((old(&bench), bench.phases("ready")), (0, 50));
}

#[test]
fn idle_vms_beyond_min_go_after_their_time() {
    let mut bench = Bench::new(bounds(1, 3));
    bench.tick(at(1));
    for ticket in 0..3 {
        bench.acquire(ticket, at(2));
    }
    for _ in 0..3 {
        let lease = bench.granted();
        bench.release(lease, at(3));
    }
    assert_eq!(bench.phases("ready"), 3);
    let wake = bench.policy.next_wake().unwrap();
    assert_eq!(wake, at(3) + bench.policy.bounds.max_idle);
    bench.tick(wake);
    assert_eq!(bench.phases("ready"), 1);
}

#[test]
fn a_drain_refuses_waits_for_holders_and_leaves_nothing() {
    let mut bench = Bench::new(bounds(2, 3));
    bench.tick(at(1));
    bench.acquire(1, at(2));
    let lease = bench.granted();
    let effects = bench.policy.drain(at(3));
    bench.run(at(3), effects);
    bench.acquire(2, at(3));
    assert_eq!(bench.told, [Effect::Refuse { ticket: Ticket(2), refusal: Refusal::Draining }]);
    assert!(!bench.policy.drained());
    bench.release(lease, at(4));
    assert!(bench.policy.drained());
}

#[test]
fn a_vm_that_cannot_be_destroyed_is_counted_and_tried_again_until_it_is_gone() {
    let mut bench = Bench::new(bounds(0, 1));
    bench.fails = vec![Job::Destroy, Job::Make];
    bench.acquire(1, at(1));
    assert_eq!(bench.policy.members.len(), 1);
    for _ in 0..10 {
        let wake = bench.policy.next_wake().unwrap();
        bench.tick(wake);
        assert_eq!(bench.policy.members.len(), 1, "another was made beside it");
    }
    bench.fails.clear();
    let wake = bench.policy.next_wake().unwrap();
    bench.tick(wake);
    assert!(!bench.policy.knows(MemberId(1)));
}

#[test]
fn the_line_has_an_end() {
    let mut bench = Bench::new(Bounds { waiters: 2, ..bounds(0, 1) });
    bench.fails = vec![Job::Make];
    (1..=3).for_each(|ticket| bench.acquire(ticket, at(1)));
    assert_eq!(bench.told, [Effect::Refuse { ticket: Ticket(3), refusal: Refusal::Busy(2) }]);
}

/// What a random run does next.
#[derive(Debug, Clone)]
enum Step {
    Pass(u64),
    PassToWake,
    Acquire { ttl: u64, wait: u64 },
    Cancel(usize),
    Release(usize),
    Renew(usize, u64),
    Finish { which: usize, well: bool },
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..2_000_u64).prop_map(Step::Pass),
        3 => Just(Step::PassToWake),
        6 => (1..20_000_u64, 0..5_000_u64).prop_map(|(ttl, wait)| Step::Acquire { ttl, wait }),
        1 => any::<usize>().prop_map(Step::Cancel),
        3 => any::<usize>().prop_map(Step::Release),
        1 => (any::<usize>(), 1..20_000_u64).prop_map(|(which, ttl)| Step::Renew(which, ttl)),
        16 => (any::<usize>(), prop::bool::weighted(0.85)).prop_map(|(which, well)| Step::Finish { which, well }),
        1 => prop::bool::weighted(0.05).prop_map(|drain| if drain { Step::Drain } else { Step::Pass(1) }),
    ]
}

fn some_bounds() -> impl Strategy<Value = Bounds> {
    (0..4_usize, 1..6_usize, 1..4_usize, 1..6_usize, 0..4_u32, 1..40_u64, 1..10_u64).prop_map(
        |(min, max, parallel, waiters, max_uses, age, idle)| Bounds {
            min: min.min(max),
            max,
            parallel,
            waiters,
            max_ttl: 15 * SECOND,
            max_uses,
            max_age: at(age),
            max_idle: at(idle),
        },
    )
}

/// Effects that concern others, in an order of their own: records are the policy's private matter.
fn outward(effects: &[Effect]) -> Vec<String> {
    let outward = effects.iter().filter(|effect| !matches!(effect, Effect::Record(_)));
    let mut outward: Vec<String> = outward.map(|effect| format!("{effect:?}")).collect();
    outward.sort();
    outward
}

fn pick<T: Copy>(of: &[T], which: usize) -> Option<T> {
    (!of.is_empty()).then(|| of[which % of.len()])
}

/// Both at the same time, what both have to do, and what the records add up to.
struct Pair {
    policy: Policy,
    model: Model,
    now: Moment,
    jobs: Vec<(MemberId, Job)>,
    next_ticket: u64,
    last_granted: Option<Ticket>,
    known: Known,
}

impl Pair {
    fn step(&mut self, step: &Step) {
        let now = self.now;
        let leased: Vec<MemberId> = self.policy.in_phase(|phase| matches!(phase, Phase::Leased { .. }));
        let millis = Duration::from_millis;
        let (effects, expected) = match *step {
            Step::Pass(ms) => {
                self.now += millis(ms);
                (self.policy.tick(self.now), self.model.tick(self.now))
            }
            Step::PassToWake => {
                self.now = self.policy.next_wake().map_or(now, |wake| wake.max(now));
                (self.policy.tick(self.now), self.model.tick(self.now))
            }
            Step::Acquire { ttl, wait } => {
                let (ticket, ttl, deadline) = (Ticket(self.next_ticket), millis(ttl), now + millis(wait));
                self.next_ticket += 1;
                (
                    self.policy.acquire(ticket, ttl, deadline, now),
                    self.model.acquire(ticket, ttl, deadline, now),
                )
            }
            Step::Cancel(which) => {
                let ticket = Ticket((which % 64) as u64);
                (self.policy.cancel(ticket, now), self.model.cancel(ticket, now))
            }
            Step::Release(which) => {
                let Some(vm) = pick(&leased, which) else { return };
                (self.policy.release(vm, None, now).1, self.model.release(vm, now))
            }
            Step::Renew(which, ttl) => {
                let Some(vm) = pick(&leased, which) else { return };
                (self.policy.renew(vm, None, millis(ttl), now).1, self.model.renew(vm, millis(ttl), now))
            }
            Step::Finish { which, well } => {
                let Some((vm, job)) = pick(&self.jobs, which) else { return };
                self.jobs.retain(|other| *other != (vm, job));
                (self.policy.finished(vm, job, well, now), self.model.finished(vm, job, well, now))
            }
            Step::Drain => (self.policy.drain(now), self.model.drain(now)),
        };
        assert_eq!(outward(&effects), outward(&expected), "{step:?}");
        self.note(&effects);
    }

    fn note(&mut self, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Record(entry) => self.known.apply(entry),
                Effect::Work { vm, job } => self.jobs.push((*vm, *job)),
                Effect::Grant { ticket, .. } => {
                    assert!(self.last_granted < Some(*ticket), "{ticket:?} was overtaken");
                    self.last_granted = Some(*ticket);
                }
                Effect::Refuse { .. } | Effect::Expired { .. } => {}
            }
        }
    }

    fn check(&self) {
        let phases: Vec<_> = self.policy.members.iter().map(|(vm, member)| (*vm, member.phase)).collect();
        let expected: Vec<_> = self.model.vms.iter().map(|vm| (vm.id, vm.member.phase)).collect();
        assert_eq!(phases, expected);
        let line: Vec<_> = self.policy.line.keys().copied().collect();
        assert_eq!(line, self.model.line.iter().map(|(ticket, _, _)| *ticket).collect::<Vec<_>>());
        assert!(phases.len() <= self.policy.bounds.max);
        assert!(self.policy.census.busy() <= self.policy.bounds.parallel);
        let saved: BTreeMap<_, _> =
            self.policy.members.iter().map(|(vm, member)| (*vm, member.saved(*vm))).collect();
        assert_eq!(self.known.members, saved, "the records say something else");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_happens_the_policy_does_what_the_model_does(
        bounds in some_bounds(),
        steps in prop::collection::vec(step(), 1..160),
    ) {
        let mut pair = Pair {
            policy: Policy::new(bounds, 7),
            model: Model::new(bounds, 7),
            now: at(100),
            jobs: vec![],
            next_ticket: 1,
            last_granted: None,
            known: Known::default(),
        };
        for step in &steps {
            pair.step(step);
            pair.check();
        }
    }
}
