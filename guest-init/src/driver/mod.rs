//! Runs the plan: each stage the moment its needs are done, on as many threads as have something to do.
//!
//! A thread that finishes a stage goes on with one that it made possible and hands the others to threads that have nothing
//! to do, or to new ones, so the longest chain of the boot runs on one thread without waiting for another. A stage that
//! takes less time than a thread is the supervisor's. The supervisor is woken only for what is its own: its stages, a
//! failure, and the end.

mod schedule;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use firstlight_protocol::boot_spec::{BootSpec, StageOrder};
use firstlight_protocol::sentinel::Event;

use crate::error::{CallError, Fault};
use crate::plan::{Plan, Stage, Work};
use crate::report::{Reporter, boot_time};
use crate::stage::{Context, Done, perform};
use crate::sys;
use crate::wait::{Deadline, Semaphore, lock};
use schedule::{Lane, Schedule};

/// How long a stage may take besides waiting for its device. None takes a second; this is for a kernel that does
/// not come back from a system call.
const STAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// The number of the supervisor's thread.
const SUPERVISOR: u32 = 0;

/// A stage that failed the boot.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) stage: String,
    pub(crate) fault: Fault,
}

impl Failure {
    /// A failure of `stage`, to be filled in with the error: `.map_err(Failure::of("plan"))`.
    pub(crate) fn of<E: Into<Fault>>(stage: &str) -> impl FnOnce(E) -> Failure {
        move |error| Failure { stage: stage.to_owned(), fault: error.into() }
    }
}

/// A stage of the supervisor's that may start now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    pub(crate) stage: usize,
    pub(crate) process: Process,
    started: u64,
}

/// A process that the supervisor starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    Agent,
    Program,
    Headers,
}

/// The boot while it runs.
#[derive(Debug)]
pub(crate) struct Driver(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    plan: Arc<Plan>,
    context: Arc<Context>,
    reporter: Reporter,
    state: Mutex<State>,
    /// For workers without work: there is some for one of them, or there will be none.
    handed: Semaphore,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    /// The deadlines of what the workers are doing, by stage.
    deadlines: Vec<(usize, Deadline)>,
    /// Threads started so far, besides the supervisor's.
    threads: u32,
    /// How many of them wait for work.
    idle: usize,
    /// Stages that have begun, for those who wait; each is posted to [`Shared::handed`].
    handed: Vec<usize>,
    failure: Option<Failure>,
    halted: bool,
}

/// The supervisor has to stay awake, so nothing that takes time is its work.
fn lane(work: &Work, spec: &BootSpec) -> Lane {
    if work.takes_time(spec) { Lane::Worker } else { Lane::Supervisor }
}

/// The process a stage starts, if that is what it does.
fn process(work: &Work) -> Option<Process> {
    match work {
        Work::Modules { .. }
        | Work::LateModules(_)
        | Work::Root(_)
        | Work::Volume { .. }
        | Work::Network
        | Work::Identity
        | Work::Units => None,
        Work::Agent => Some(Process::Agent),
        Work::Program => Some(Process::Program),
        Work::Headers => Some(Process::Headers),
    }
}

/// That a stage is done.
fn stage_done(plan: &Plan, index: usize, dur: u64, thread: u32, done: Done) -> Event {
    let needs = plan.direct_needs(index).into_iter();
    Event::StageDone {
        stage: plan.name(index),
        dur,
        thread: Some(thread),
        index: u32::try_from(index).ok(),
        needs: needs.filter_map(|need| u32::try_from(need).ok()).collect(),
        skipped: done.skipped,
    }
}

impl Driver {
    /// Starts the boot.
    ///
    /// # Errors
    /// Those of `eventfd(2)`.
    pub(crate) fn start(plan: Plan, context: Arc<Context>, reporter: Reporter) -> nix::Result<Driver> {
        let serial = context.spec.boot.stages == StageOrder::Serial;
        let lane_of = |index: usize| {
            plan.stages.get(index).map_or(Lane::Worker, |stage| lane(&stage.work, &context.spec))
        };
        let schedule = Schedule::new(&plan, lane_of, serial);
        let state = Mutex::new(State {
            schedule,
            deadlines: Vec::new(),
            threads: 0,
            idle: 0,
            handed: Vec::new(),
            failure: None,
            halted: false,
        });
        let plan = Arc::new(plan);
        let driver = Driver(Arc::new(Shared { plan, context, reporter, state, handed: Semaphore::new()? }));
        driver.0.start_workers();
        Ok(driver)
    }

    /// Does the supervisor's next stages, up to one that starts a process.
    pub(crate) fn take_turn(&self) -> Option<Turn> {
        loop {
            let index = self.0.next_stage(Lane::Supervisor)?;
            let stage = self.0.plan.stages.get(index)?;
            if let Some(process) = process(&stage.work) {
                return Some(Turn { stage: index, process, started: boot_time() });
            }
            if !self.0.perform(index, stage, SUPERVISOR) {
                return None;
            }
            self.0.start_workers();
        }
    }

    /// Says that a stage of the supervisor's is done.
    pub(crate) fn complete_turn(&self, turn: Turn) {
        self.0.complete(turn.stage, turn.started, SUPERVISOR, Done::default());
        self.0.start_workers();
    }

    /// The failure of `turn`, under its stage's name.
    pub(crate) fn fail_turn(&self, turn: Turn, fault: Fault) -> Failure {
        Failure { stage: self.0.plan.name(turn.stage), fault }
    }

    /// The first failure of a worker's stage, a stage that takes too long included.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let state = lock(&self.0.state);
        let overdue = state.deadlines.iter().find(|(_, deadline)| deadline.passed());
        let overdue = overdue.map(|(stage, _)| Failure {
            stage: self.0.plan.name(*stage),
            fault: Fault {
                errno: Some(nix::errno::Errno::ETIMEDOUT),
                path: None,
                error: "the stage did not end in time".to_owned(),
            },
        });
        state.failure.clone().or(overdue)
    }

    /// When [`Driver::failure`] has to be asked even if nothing happens.
    pub(crate) fn next_deadline(&self) -> Option<Deadline> {
        lock(&self.0.state).deadlines.iter().map(|(_, deadline)| *deadline).min()
    }

    /// Starts no more stages. Those that wait for a device stop waiting.
    pub(crate) fn halt(&self) {
        let mut state = lock(&self.0.state);
        state.halted = true;
        self.0.release(state);
        self.0.context.cancelled.raise();
    }
}

impl Shared {
    /// Has a worker for every stage of theirs that may start: one that waits for work, or a new one.
    fn start_workers(self: &Arc<Self>) {
        while let Some(stage) = self.next_stage(Lane::Worker) {
            let mut state = lock(&self.state);
            if state.handed.len() < state.idle {
                state.handed.push(stage);
                drop(state);
                self.handed.post(1);
                continue;
            }
            state.threads += 1;
            let thread = state.threads;
            drop(state);
            let shared = Arc::clone(self);
            if let Err(errno) = sys::spawn(move || shared.work(stage, thread)) {
                self.fail(stage, CallError::of("start a thread")(errno).into());
            }
        }
    }

    /// Wakes the supervisor if there is something for it.
    fn wake_supervisor(&self) {
        let state = lock(&self.state);
        let wanted = state.failure.is_some() || state.schedule.has_next(Lane::Supervisor);
        // Whoever is woken may run at once, and will want the lock.
        drop(state);
        if wanted {
            self.context.wake.raise();
        }
    }

    /// A worker's life: its stage, then whatever that made possible, then whatever others did. It ends with the boot and
    /// not before: the end of a thread is work too, and the program goes before it.
    fn work(self: &Arc<Self>, first: usize, thread: u32) {
        let mut next = Some(first);
        while let Some((index, stage)) = next.and_then(|index| Some((index, self.plan.stages.get(index)?))) {
            if !self.perform(index, stage, thread) {
                return;
            }
            next = self.next_stage(Lane::Worker);
            self.start_workers();
            self.wake_supervisor();
            next = next.or_else(|| self.wait_for_stage());
        }
    }

    /// Waits to be handed a stage; `None` when the boot is over.
    fn wait_for_stage(&self) -> Option<usize> {
        let mut state = lock(&self.state);
        if state.is_over() {
            return None;
        }
        state.idle += 1;
        drop(state);
        self.handed.wait();
        let mut state = lock(&self.state);
        state.idle -= 1;
        // What was handed over before the boot was called off is not begun any more.
        if state.is_over() { None } else { state.handed.pop() }
    }

    /// Lets the workers without work go. The boot is over.
    fn release(&self, state: MutexGuard<'_, State>) {
        let idle = state.idle;
        drop(state);
        self.handed.post(idle);
    }

    /// Does a stage's work; `false` when it failed the boot.
    fn perform(&self, index: usize, stage: &Stage, thread: u32) -> bool {
        let started = boot_time();
        match perform(&stage.work, &self.context) {
            Ok(done) => {
                self.opens_stream(stage);
                self.complete(index, started, thread, done);
                true
            }
            Err(fault) => {
                self.fail(index, fault);
                false
            }
        }
    }

    fn next_stage(&self, lane: Lane) -> Option<usize> {
        let mut state = lock(&self.state);
        if state.is_over() {
            return None;
        }
        let stage = state.schedule.start_next(lane)?;
        // The supervisor cannot watch over itself.
        if lane == Lane::Worker {
            let for_device = Duration::from_millis(self.context.spec.boot.device_timeout_ms.into());
            state.deadlines.push((stage, Deadline::after(STAGE_TIMEOUT + for_device)));
            let is_first = state.deadlines.len() == 1;
            drop(state);
            // It is woken for what is the supervisor's, but has to learn of the first deadline.
            if is_first {
                self.context.wake.raise();
            }
        }
        Some(stage)
    }

    /// From the stage on that loads its driver, the event stream is among those who are told.
    fn opens_stream(&self, stage: &Stage) {
        let vsock = matches!(stage.work, Work::Modules { vsock: true, .. });
        if vsock && self.context.spec.boot.event_stream {
            // Without the thread there is no stream; the serial console has every sentinel.
            let _ = self.reporter.open_stream();
        }
    }

    fn complete(&self, index: usize, started: u64, thread: u32, done: Done) {
        let plan = Arc::clone(&self.plan);
        self.reporter.emit_since(started, move |dur| stage_done(&plan, index, dur, thread, done));
        let mut state = lock(&self.state);
        state.deadlines.retain(|(stage, _)| *stage != index);
        state.schedule.complete(index);
        if state.is_over() {
            self.release(state);
        }
    }

    fn fail(&self, stage: usize, fault: Fault) {
        let mut state = lock(&self.state);
        state.failure.get_or_insert_with(|| Failure { stage: self.plan.name(stage), fault });
        self.release(state);
        self.context.wake.raise();
    }
}

impl State {
    /// Whether no stage starts any more.
    fn is_over(&self) -> bool {
        self.halted || self.failure.is_some() || self.schedule.is_finished()
    }
}
