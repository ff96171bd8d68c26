//! The task that owns a pool: it hands events to the policy, writes its records down, and carries its effects out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::driver::{Driver, Made, Way, perform};
use super::error::PoolError;
use super::handle::{Command, Granted, Pool};
use super::journal::Records;
use super::name::vm_name;
use super::news::News;
use super::policy::{Bounds, Effect, Job, MemberId, Moment, Policy, Refusal, Status, Ticket};

/// Longest wait for a check. Somebody waits for the VM, and one that takes longer is not well.
const CHECK_LIMIT: Duration = Duration::from_secs(5);

/// Longest wait for a proof.
const PROVE_LIMIT: Duration = Duration::from_secs(30);

/// Longest wait for a VM to be made, reset or destroyed: ten times what a slow host needs. The driver's own deadlines,
/// which name what they waited for, are shorter.
const WORK_LIMIT: Duration = Duration::from_mins(10);

/// A pool's status, and why work failed last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this document; fields are added within one.
    pub version: u32,
    /// The pool's name.
    pub pool: String,
    /// The policy's view.
    #[serde(flatten)]
    pub status: Status,
    /// The latest failure of each kind of work, in words.
    pub last_failures: BTreeMap<Job, String>,
    /// How the VMs were brought up.
    #[serde(default)]
    pub ways: Ways,
}

/// How VMs were brought up, made and reset, since the pool's process started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ways {
    /// How many by each way.
    pub counts: BTreeMap<Way, u64>,
    /// How many by a slower way than was tried first.
    pub fell_back: u64,
    /// How each VM was brought up last, by its name; one that an earlier process brought up is left out.
    pub vms: BTreeMap<String, Way>,
}

/// What a pool needs besides its driver.
pub struct Setup<'a> {
    /// The pool's name.
    pub name: &'a str,
    /// Where its records are. The caller holds the pool's lock.
    pub directory: &'a Path,
    /// The host's boot.
    pub host_boot: &'a str,
    /// The numbers it keeps to.
    pub bounds: Bounds,
    /// Makes its backoff differ from other pools'.
    pub seed: u64,
    /// The time since the host's boot.
    pub clock: Box<dyn Fn() -> Moment + Send>,
    /// Hears what happens.
    pub news: Box<dyn FnMut(News) + Send>,
}

/// A pool at work; [`Service::run`] is its whole life.
pub struct Service<D: Driver> {
    name: String,
    driver: Arc<D>,
    policy: Policy,
    records: Records,
    clock: Box<dyn Fn() -> Moment + Send>,
    news: Box<dyn FnMut(News) + Send>,
    commands: mpsc::Receiver<Command>,
    /// At most as many as the policy's line is long.
    callers: HashMap<Ticket, oneshot::Sender<Result<Granted, Refusal>>>,
    /// One a VM at most.
    work: JoinSet<Done>,
    under_way: HashMap<Id, (MemberId, Job)>,
    effects: VecDeque<Effect>,
    drains: Vec<oneshot::Sender<()>>,
    cut_at: Option<Instant>,
    last_failures: BTreeMap<Job, String>,
    ways: Ways,
    degraded: Vec<Job>,
}

/// How a piece of work ended.
type Done = Result<Option<Made>, String>;

impl<D: Driver> Service<D> {
    /// Takes over what an earlier process of the pool left, and all VMs that bear its name: those it did not know are
    /// destroyed by [`Service::run`].
    ///
    /// # Errors
    /// [`PoolError`].
    pub fn open(setup: Setup<'_>, driver: D) -> Result<(Service<D>, Pool), PoolError> {
        let records = Records::open(setup.directory, setup.host_boot)?;
        let (policy, effects) =
            Policy::restore(setup.bounds.validate()?, setup.seed, records.known(), (setup.clock)());
        let (pool, commands) = Pool::new();
        let service = Service {
            name: setup.name.to_owned(),
            driver: Arc::new(driver),
            policy,
            records,
            clock: setup.clock,
            news: setup.news,
            commands,
            callers: HashMap::new(),
            work: JoinSet::new(),
            under_way: HashMap::new(),
            effects: effects.into(),
            drains: Vec::new(),
            cut_at: None,
            last_failures: BTreeMap::new(),
            ways: Ways::default(),
            degraded: Vec::new(),
        };
        Ok((service, pool))
    }

    /// Serves the pool until it is drained. Dropping the future leaves its VMs for whoever serves it next.
    ///
    /// # Errors
    /// [`PoolError::Records`], such as a full disk: what cannot be remembered must not happen.
    pub async fn run(mut self) -> Result<(), PoolError> {
        self.sweep().await?;
        self.carry_out()?;
        while !self.policy.drained() {
            let wake = self.wake();
            let effects = tokio::select! {
                Some(command) = self.commands.recv() => self.obey(command).await?,
                Some(ended) = self.work.join_next_with_id() => self.ended(ended),
                () = sleep_until(wake) => self.time_passed(),
            };
            self.effects.extend(effects);
            self.carry_out()?;
        }
        self.drains.into_iter().for_each(|reply| send(reply, ()));
        Ok(())
    }

    fn now(&self) -> Moment {
        (self.clock)()
    }

    /// When something happens by itself.
    fn wake(&self) -> Instant {
        // Where nothing does, any time will do: it only ticks.
        const NOTHING: Duration = Duration::from_hours(1);
        let next = self.policy.next_wake().map_or(NOTHING, |wake| wake.saturating_sub(self.now()));
        let next = Instant::now() + next;
        self.cut_at.map_or(next, |cut| cut.min(next))
    }

    fn time_passed(&mut self) -> Vec<Effect> {
        let now = self.now();
        if self.cut_at.is_some_and(|cut| cut <= Instant::now()) {
            self.cut_at = None;
            return self.policy.cut(now);
        }
        self.policy.tick(now)
    }

    async fn obey(&mut self, command: Command) -> Result<Vec<Effect>, PoolError> {
        let now = self.now();
        Ok(match command {
            Command::Acquire { ticket, wait, ttl, reply } => {
                self.callers.insert(ticket, reply);
                self.policy.acquire(ticket, ttl, now.saturating_add(wait), now)
            }
            Command::Cancel { ticket } => {
                self.callers.remove(&ticket);
                self.policy.cancel(ticket, now)
            }
            Command::Release { vm, lease, reply } => {
                let (result, effects) = self.policy.release(vm, lease, now);
                self.remember_then(effects, || send(reply, result))?
            }
            Command::Renew { vm, lease, ttl, reply } => {
                let (result, effects) = self.policy.renew(vm, lease, ttl, now);
                let result = result.map(|until| until.saturating_sub(now));
                self.remember_then(effects, || send(reply, result))?
            }
            Command::Status { reply } => {
                send(reply, self.report());
                Vec::new()
            }
            Command::Drain { cut_after, reply } => {
                self.drains.push(reply);
                self.cut_at = cut_after.map(|after| Instant::now() + after).or(self.cut_at);
                self.policy.drain(now)
            }
            Command::Sweep { reply } => {
                send(reply, self.sweep().await?);
                Vec::new()
            }
        })
    }

    /// Writes the records among `effects` down before `answer` is given; the other effects are still to come.
    fn remember_then(
        &mut self,
        effects: Vec<Effect>,
        answer: impl FnOnce(),
    ) -> Result<Vec<Effect>, PoolError> {
        let (records, others): (Vec<_>, Vec<_>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Record(_)));
        self.effects.extend(records);
        self.carry_out()?;
        answer();
        Ok(others)
    }

    /// Carries out all effects, those that follow from others included. Records go first: nothing is done or said that
    /// a crash could make untrue.
    fn carry_out(&mut self) -> Result<(), PoolError> {
        while !self.effects.is_empty() {
            let effects = std::mem::take(&mut self.effects);
            let records: Vec<_> = effects.iter().filter_map(record).collect();
            self.records.append(&records)?;
            effects.iter().for_each(|effect| self.act(effect));
        }
        self.tell_of_trouble();
        Ok(())
    }

    fn act(&mut self, effect: &Effect) {
        match *effect {
            Effect::Record(_) => {}
            Effect::Work { vm, job } => self.start(vm, job),
            Effect::Grant { ticket, lease, until } => {
                let expires_in = until.saturating_sub(self.now());
                let granted = Granted { name: vm_name(&self.name, lease.vm), lease, expires_in };
                let taken = self.callers.remove(&ticket).map(|reply| reply.send(Ok(granted)));
                // Its caller went in this very moment.
                if !matches!(taken, Some(Ok(()))) {
                    let (_, effects) = self.policy.release(lease.vm, Some(lease), self.now());
                    self.effects.extend(effects);
                }
            }
            Effect::Refuse { ticket, refusal } => {
                if let Some(reply) = self.callers.remove(&ticket) {
                    send(reply, Err(refusal));
                }
            }
            Effect::Expired { lease } => {
                (self.news)(News::Expired { vm: vm_name(&self.name, lease.vm), lease });
            }
        }
    }

    fn start(&mut self, vm: MemberId, job: Job) {
        let driver = Arc::clone(&self.driver);
        let limit = match job {
            Job::Check => CHECK_LIMIT,
            Job::Prove => PROVE_LIMIT,
            Job::Make | Job::Reset | Job::Destroy => WORK_LIMIT,
        };
        let task = self.work.spawn(async move {
            match timeout(limit, perform(&*driver, vm, job)).await {
                Ok(result) => result.map_err(|error| error.to_string()),
                Err(_) => Err(format!("it took longer than {} s to {}", limit.as_secs(), job.name())),
            }
        });
        self.under_way.insert(task.id(), (vm, job));
    }

    fn ended(&mut self, ended: Result<(Id, Done), JoinError>) -> Vec<Effect> {
        let (id, done) =
            ended.unwrap_or_else(|error| (error.id(), Err(format!("the driver broke off: {error}"))));
        let Some((vm, job)) = self.under_way.remove(&id) else { return Vec::new() };
        let well = done.is_ok();
        match done {
            Ok(Some(made)) => self.brought_up(vm, made),
            Ok(None) => {}
            Err(reason) => {
                self.last_failures.insert(job, reason.clone());
                (self.news)(News::Failed { vm: vm_name(&self.name, vm), job, reason });
            }
        }
        let effects = self.policy.finished(vm, job, well, self.now());
        if !self.policy.knows(vm) {
            self.ways.vms.remove(&vm_name(&self.name, vm));
        }
        effects
    }

    fn brought_up(&mut self, vm: MemberId, made: Made) {
        let name = vm_name(&self.name, vm);
        *self.ways.counts.entry(made.way).or_default() += 1;
        self.ways.vms.insert(name.clone(), made.way);
        if let Some(reason) = made.fell_back {
            self.ways.fell_back += 1;
            (self.news)(News::FellBack { vm: name, reason });
        }
    }

    fn report(&self) -> Report {
        Report {
            version: 1,
            pool: self.name.clone(),
            status: self.policy.status(self.now()),
            last_failures: self.last_failures.clone(),
            ways: self.ways.clone(),
        }
    }

    fn tell_of_trouble(&mut self) {
        let degraded = self.policy.degraded();
        if degraded != self.degraded {
            self.degraded.clone_from(&degraded);
            (self.news)(News::Degraded { jobs: degraded });
        }
    }

    /// Destroys what bears the pool's name and is not known to it.
    async fn sweep(&mut self) -> Result<Vec<String>, PoolError> {
        let existing = self.driver.existing();
        let existing = existing
            .map_err(|error| PoolError::List { pool: self.name.clone(), reason: error.to_string() })?;
        let mut swept = Vec::new();
        for vm in existing.into_iter().filter(|vm| !self.policy.knows(*vm)).collect::<Vec<_>>() {
            let name = vm_name(&self.name, vm);
            match timeout(WORK_LIMIT, self.driver.destroy(vm)).await {
                Ok(Ok(())) => {
                    (self.news)(News::Stray { vm: name.clone() });
                    swept.push(name);
                }
                Ok(Err(error)) => {
                    (self.news)(News::Failed { vm: name, job: Job::Destroy, reason: error.to_string() });
                }
                Err(_) => {
                    let reason = format!("it took longer than {} s", WORK_LIMIT.as_secs());
                    (self.news)(News::Failed { vm: name, job: Job::Destroy, reason });
                }
            }
        }
        Ok(swept)
    }
}

/// Answers. One who asked and is gone does not want to know.
fn send<T>(reply: oneshot::Sender<T>, answer: T) {
    let _ = reply.send(answer);
}

fn record(effect: &Effect) -> Option<super::policy::Entry> {
    if let Effect::Record(entry) = effect { Some(*entry) } else { None }
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
