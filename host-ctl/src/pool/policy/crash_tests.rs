//! Killed at any record boundary, a pool that starts again loses no VM, keeps every lease that holds, and gives no VM to
//! a second holder.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::{Bounds, Effect, Entry, Job, Known, LeaseId, MemberId, Moment, Policy, Ticket};

const SECOND: Duration = Duration::from_secs(1);

/// What a restart cannot take away: VMs, holders, and what is on disk.
#[derive(Default)]
struct World {
    vms: BTreeSet<MemberId>,
    /// Who was told to have a VM, until when.
    holders: BTreeMap<MemberId, (LeaseId, Moment)>,
    disk: Known,
    /// Effects until the crash.
    fuel: usize,
}

/// A process of the pool: all of it is lost in a crash.
struct Process {
    policy: Policy,
    effects: VecDeque<Effect>,
    jobs: Vec<(MemberId, Job)>,
}

struct Crashed;

impl Process {
    fn start(world: &World, bounds: Bounds, now: Moment) -> Process {
        let (policy, effects) = Policy::restore(bounds, 3, &world.disk, now);
        Process { policy, effects: effects.into(), jobs: Vec::new() }
    }

    /// Carries effects out one by one, so that a crash may come between any two.
    fn carry_out(&mut self, world: &mut World, effects: Vec<Effect>, now: Moment) -> Result<(), Crashed> {
        self.effects.extend(effects);
        while let Some(effect) = self.effects.pop_front() {
            world.fuel = world.fuel.checked_sub(1).ok_or(Crashed)?;
            match effect {
                Effect::Record(entry) => {
                    world.disk.apply(&entry);
                    if let Entry::Gone { vm } = entry {
                        assert!(!world.vms.contains(&vm), "{vm} is forgotten and exists");
                    }
                }
                Effect::Work { vm, job } => {
                    let held = world.holders.get(&vm).is_some_and(|(_, until)| *until > now);
                    assert!(!held, "{vm} is worked on while somebody holds it");
                    if job == Job::Make {
                        assert!(world.disk.members.contains_key(&vm), "{vm} is made and nobody would know");
                        assert!(world.vms.insert(vm), "{vm} is made twice");
                    }
                    self.jobs.push((vm, job));
                }
                Effect::Grant { lease, until, .. } => {
                    let held = world.holders.get(&lease.vm).is_some_and(|(_, until)| *until > now);
                    assert!(!held, "{} is handed out twice", lease.vm);
                    assert!(world.vms.contains(&lease.vm));
                    world.holders.insert(lease.vm, (lease, until));
                }
                Effect::Refuse { .. } | Effect::Expired { .. } => {}
            }
        }
        Ok(())
    }

    fn finish(&mut self, world: &mut World, which: usize, well: bool, now: Moment) -> Result<(), Crashed> {
        if self.jobs.is_empty() {
            return Ok(());
        }
        let (vm, job) = self.jobs.remove(which % self.jobs.len());
        if job == Job::Destroy && well {
            world.vms.remove(&vm);
        }
        let effects = self.policy.finished(vm, job, well, now);
        self.carry_out(world, effects, now)
    }
}

/// What happens next: a caller comes, a holder gives back, or work ends.
#[derive(Debug, Clone, Copy)]
enum Step {
    Acquire(u64),
    Release(usize),
    Finish(usize, bool),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..60_u64).prop_map(Step::Acquire),
        2 => any::<usize>().prop_map(Step::Release),
        8 => (any::<usize>(), prop::bool::weighted(0.9)).prop_map(|(which, well)| Step::Finish(which, well)),
        1 => (0..5_000_u64).prop_map(Step::Pass),
    ]
}

fn live(
    process: &mut Process,
    world: &mut World,
    steps: &[Step],
    now: &mut Moment,
    next_ticket: &mut u64,
) -> Result<(), Crashed> {
    process.carry_out(world, Vec::new(), *now)?;
    for step in steps {
        let effects = match *step {
            Step::Acquire(ttl) => {
                *next_ticket += 1;
                process.policy.acquire(
                    Ticket(*next_ticket),
                    Duration::from_secs(ttl),
                    *now + 5 * SECOND,
                    *now,
                )
            }
            Step::Release(which) => {
                let held: Vec<LeaseId> = world.holders.values().map(|(lease, _)| *lease).collect();
                let Some(lease) = held.get(which % held.len().max(1)).copied() else { continue };
                // It lets go before it says so.
                world.holders.remove(&lease.vm);
                process.policy.release(lease.vm, Some(lease), *now).1
            }
            Step::Finish(which, well) => {
                process.finish(world, which, well, *now)?;
                continue;
            }
            Step::Pass(ms) => {
                *now += Duration::from_millis(ms);
                process.policy.tick(*now)
            }
        };
        process.carry_out(world, effects, *now)?;
    }
    Ok(())
}

/// Lets all work succeed until there is none.
fn settle(process: &mut Process, world: &mut World, now: Moment) {
    world.fuel = usize::MAX;
    assert!(process.carry_out(world, Vec::new(), now).is_ok());
    while !process.jobs.is_empty() {
        assert!(process.finish(world, 0, true, now).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_pool_killed_at_any_moment_goes_on_where_it_was(
        lives in prop::collection::vec((prop::collection::vec(step(), 1..60), 0..120_usize), 1..4),
        max in 1..5_usize,
    ) {
        let bounds = Bounds { min: max / 2, max, parallel: 2, ..Bounds::default() };
        let (mut world, mut now, mut next_ticket) = (World::default(), Moment::from_secs(50), 0);
        for (steps, fuel) in &lives {
            world.fuel = *fuel;
            let mut process = Process::start(&world, bounds, now);
            let _ = live(&mut process, &mut world, steps, &mut now, &mut next_ticket);
        }
        let valid: Vec<(LeaseId, Moment)> =
            world.holders.values().copied().filter(|(_, until)| *until > now).collect();
        let mut process = Process::start(&world, bounds, now);
        for (lease, until) in valid {
            let (renewed, _) = process.policy.renew(lease.vm, Some(lease), until - now, now);
            prop_assert_eq!(renewed, Ok(until), "a lease that holds was lost");
        }
        settle(&mut process, &mut world, now);
        let known: BTreeSet<MemberId> = process.policy.members.keys().copied().collect();
        prop_assert_eq!(&world.vms, &known, "VMs leaked, or are believed in");
        prop_assert!(world.vms.len() <= max);
        let effects = process.policy.drain(now);
        prop_assert!(process.carry_out(&mut world, effects, now).is_ok());
        let effects = process.policy.cut(now);
        world.holders.clear();
        prop_assert!(process.carry_out(&mut world, effects, now).is_ok());
        settle(&mut process, &mut world, now);
        prop_assert_eq!(world.vms.len(), 0, "VMs are left after the drain");
    }
}
