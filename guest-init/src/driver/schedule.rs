//! Which stage may start: the plan's needs, and what is done so far. Pure.

use crate::plan::{Plan, Stage};

/// Who does a stage's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// A thread of the driver's.
    Worker,
    /// The supervisor, which starts and reaps all processes.
    Supervisor,
}

/// How far the boot has come.
#[derive(Debug)]
pub(crate) struct Schedule {
    stages: Vec<Slot>,
    /// One stage at a time.
    serial: bool,
}

#[derive(Debug)]
struct Slot {
    lane: Lane,
    loads_modules: bool,
    needs: Vec<usize>,
    progress: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Running,
    Done,
}

impl Schedule {
    /// Nothing is done yet.
    pub(crate) fn new(plan: &Plan, lane: impl Fn(usize) -> Lane, serial: bool) -> Schedule {
        let slot = |(index, stage): (usize, &Stage)| Slot {
            lane: lane(index),
            loads_modules: stage.work.loads_modules(),
            needs: stage.needs.clone(),
            progress: Progress::Waiting,
        };
        Schedule { stages: plan.stages.iter().enumerate().map(slot).collect(), serial }
    }

    /// Starts the first stage that may start, if it is for this lane.
    pub(crate) fn start_next(&mut self, lane: Lane) -> Option<usize> {
        let index = self.next(lane)?;
        self.stages.get_mut(index)?.progress = Progress::Running;
        Some(index)
    }

    /// Whether there is something to start for this lane.
    pub(crate) fn has_next(&self, lane: Lane) -> bool {
        self.next(lane).is_some()
    }

    /// Marks a stage as done.
    pub(crate) fn complete(&mut self, index: usize) {
        if let Some(slot) = self.stages.get_mut(index) {
            slot.progress = Progress::Done;
        }
    }

    /// Whether all stages are done.
    pub(crate) fn is_finished(&self) -> bool {
        self.stages.iter().all(|slot| slot.progress == Progress::Done)
    }

    fn next(&self, lane: Lane) -> Option<usize> {
        if self.serial && self.stages.iter().any(|slot| slot.progress == Progress::Running) {
            return None;
        }
        let loading = |slot: &Slot| slot.loads_modules && slot.progress == Progress::Running;
        let is_loading = self.stages.iter().any(loading);
        let may_start = |slot: &Slot| {
            slot.progress == Progress::Waiting
                // The kernel takes in one module after another; a thread that waits for its turn is of no use.
                && !(slot.loads_modules && is_loading)
                && slot
                    .needs
                    .iter()
                    .all(|need| self.stages.get(*need).is_some_and(|slot| slot.progress == Progress::Done))
        };
        if self.serial {
            // Strictly in the order of the plan, whoever's turn that makes it.
            let (index, slot) = self.stages.iter().enumerate().find(|(_, slot)| may_start(slot))?;
            return (slot.lane == lane).then_some(index);
        }
        // Loading keeps a processor. What else there is will soon wait for a disk, and goes first.
        let first = |loads_modules: bool| {
            let fits = |slot: &Slot| slot.lane == lane && slot.loads_modules == loads_modules;
            self.stages.iter().position(|slot| fits(slot) && may_start(slot))
        };
        first(false).or_else(|| first(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Work;
    use proptest::prelude::*;

    /// A plan of stages that need earlier ones, by a bit mask each, in which every fourth loads modules.
    fn plan(masks: &[u32]) -> Plan {
        let work = |index: usize| {
            if index % 4 == 3 { Work::LateModules(Vec::new()) } else { Work::Network }
        };
        let stages = masks.iter().enumerate().map(|(index, mask)| Stage {
            name: index.to_string(),
            work: work(index),
            needs: (0..index).filter(|need| mask & (1 << need) != 0).collect(),
        });
        Plan { stages: stages.collect() }
    }

    proptest! {
        #[test]
        fn every_stage_runs_once_and_after_its_needs_whatever_finishes_first(
            masks in proptest::collection::vec(any::<u32>(), 1..12),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 64),
            serial: bool,
        ) {
            let plan = plan(&masks);
            let lane = |index: usize| if index.is_multiple_of(3) { Lane::Supervisor } else { Lane::Worker };
            let mut schedule = Schedule::new(&plan, lane, serial);
            let (mut running, mut done) = (Vec::new(), Vec::new());
            let mut order = order.into_iter().cycle();
            while !schedule.is_finished() {
                for lane in [Lane::Worker, Lane::Supervisor] {
                    while let Some(index) = schedule.start_next(lane) {
                        prop_assert!(plan.stages[index].needs.iter().all(|need| done.contains(need)));
                        running.push(index);
                    }
                }
                prop_assert!(!running.is_empty(), "nothing runs and nothing may start");
                prop_assert!(!serial || running.len() == 1);
                prop_assert!(running.iter().filter(|index| **index % 4 == 3).count() <= 1, "two load modules");
                let index = running.swap_remove(order.next().unwrap().index(running.len()));
                schedule.complete(index);
                done.push(index);
            }
            done.sort_unstable();
            prop_assert_eq!(done, (0..masks.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn stages_that_need_nothing_of_each_other_run_at_once() {
        let mut schedule = Schedule::new(&plan(&[0, 0, 0b11]), |_| Lane::Worker, false);
        assert_eq!(
            [schedule.start_next(Lane::Worker), schedule.start_next(Lane::Worker)],
            [Some(0), Some(1)]
        );
        assert_eq!(schedule.start_next(Lane::Worker), None);
    }

    #[test]
    fn modules_are_loaded_one_stage_at_a_time_and_after_what_may_start_besides() {
        // 3 and 7 load modules; 8 needs the first of them.
        let mut schedule = Schedule::new(&plan(&[0, 0, 0, 0, 0, 0, 0, 0, 0b1000]), |_| Lane::Worker, false);
        let mut started = || std::iter::from_fn(|| schedule.start_next(Lane::Worker)).collect::<Vec<_>>();
        assert_eq!(started(), [0, 1, 2, 4, 5, 6, 3]);
        schedule.complete(3);
        assert_eq!([(); 2].map(|()| schedule.start_next(Lane::Worker)), [Some(8), Some(7)]);
    }

    #[test]
    fn in_serial_order_the_plan_decides_and_not_the_lane() {
        let lane = |index| if index == 0 { Lane::Supervisor } else { Lane::Worker };
        let mut schedule = Schedule::new(&plan(&[0, 0]), lane, true);
        assert_eq!(schedule.start_next(Lane::Worker), None);
        assert_eq!(schedule.start_next(Lane::Supervisor), Some(0));
        assert_eq!(schedule.start_next(Lane::Worker), None);
        schedule.complete(0);
        assert_eq!(schedule.start_next(Lane::Worker), Some(1));
    }
}
