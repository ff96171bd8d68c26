//! The core under all the schedules that can be found.
//!
//! `core`, `caller` and `until` are compiled a second time, over shuttle's lock. Every lock is then a place where
//! another task may go on instead, and shuttle tries thousands of ways through each scenario; a wait that nothing
//! ends is a deadlock, which it reports with the schedule that leads to it.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use shuttle::future::{JoinHandle, block_on, spawn, yield_now};

use super::super::{Generation, Key, Poison};
use super::super::{error, key, policy};
use policy::{Limits, Policy};

mod sync {
    pub(super) use std::sync::PoisonError;

    pub(super) use shuttle::sync::{Mutex, MutexGuard};
}
#[allow(clippy::duplicate_mod, reason = "the same code over another lock is the point")]
#[path = "../caller.rs"]
mod caller;
#[allow(clippy::duplicate_mod, reason = "the same code over another lock is the point")]
#[path = "../core.rs"]
mod core;
#[allow(clippy::duplicate_mod, reason = "the same code over another lock is the point")]
#[path = "../until.rs"]
mod until;

use self::caller::Lease;
use self::core::{Core, Job, Refused};

/// Schedules tried for each scenario and way of choosing them.
const SCHEDULES: usize = 500;
/// How often a schedule of the second kind takes the turn from the task it prefers.
const PREEMPTIONS: usize = 3;

type TestCore = Core<Wire, &'static str>;
type TestLease = Lease<Wire, &'static str>;

/// A pool's core, what it needs around it, and the books.
#[derive(Clone)]
struct Bench {
    core: Arc<TestCore>,
    books: Arc<Books>,
    failing: bool,
    /// Most connections that may be open at a time.
    most: usize,
}

#[derive(Default)]
struct Books {
    dialed: AtomicUsize,
    closed: AtomicUsize,
    open: AtomicUsize,
    seconds: AtomicUsize,
}

/// What is pooled: it says whether it is open.
struct Wire {
    open: AtomicUsize,
}

impl Bench {
    fn new(targets: usize) -> Bench {
        let books = Arc::new(Books::default());
        let policy = Policy::new(Limits { targets, connections: 4, waiters: 4 }, Duration::from_secs(10));
        let seconds = Arc::clone(&books);
        let core =
            Core::new(policy, move || Duration::from_secs(seconds.seconds.load(Ordering::SeqCst) as u64));
        Bench { core: Arc::new(core), books, failing: false, most: targets }
    }

    /// Runs the scenario's tasks to their ends, then closes the pool and looks that nothing is left.
    async fn run(self, tasks: Vec<JoinHandle<()>>) {
        let supervisor = spawn(self.clone().supervise());
        for task in tasks {
            task.await.expect("the scenario's tasks do not panic");
        }
        self.core.shut();
        self.core.drained().await;
        supervisor.await.expect("the supervisor does not panic");
        let Books { dialed, closed, open, .. } = &*self.books;
        assert_eq!((read(closed), read(open)), (read(dialed), 0));
    }

    async fn supervise(self) {
        let mut drivers = Vec::new();
        while let Some(job) = self.core.next_job().await {
            drivers.push(spawn(self.clone().drive(job)));
        }
        for driver in drivers {
            driver.await.expect("the drivers do not panic");
        }
    }

    async fn drive(self, job: Job) {
        yield_now().await;
        if self.failing {
            self.core.failed(job.id, "no such VM");
            return self.core.closed(job.id);
        }
        self.books.dialed.fetch_add(1, Ordering::SeqCst);
        let open = self.books.open.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(open <= self.most, "{open} connections are open");
        let wire = Arc::new(Wire { open: AtomicUsize::new(1) });
        self.core.dialed(job.id, Arc::clone(&wire));
        self.core.ordered_to_close(job.id).await;
        assert_eq!(wire.open.swap(0, Ordering::SeqCst), 1, "closed twice");
        self.books.open.fetch_sub(1, Ordering::SeqCst);
        self.books.closed.fetch_add(1, Ordering::SeqCst);
        self.core.closed(job.id);
    }

    /// A task that does something with the bench.
    fn task<F: Future<Output = ()> + Send + 'static>(&self, does: impl FnOnce(Bench) -> F) -> JoinHandle<()> {
        spawn(does(self.clone()))
    }

    async fn acquire(&self, key: &Key) -> Result<TestLease, Refused<&'static str>> {
        self.core.acquire(key).answer().await
    }

    /// Takes a connection, looks that it is open, and gives it back.
    async fn use_once(self, key: Key) {
        let lease = granted(self.acquire(&key).await);
        yield_now().await;
        assert_eq!(self.wire(&lease).open.load(Ordering::SeqCst), 1);
    }

    fn wire(&self, lease: &TestLease) -> Arc<Wire> {
        self.core.connection(lease.id).expect("an unpoisoned connection")
    }
}

fn read(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::SeqCst)
}

fn key_of(vm: &str, generation: u64) -> Key {
    Key::new(vm, Generation(generation))
}

#[track_caller]
fn granted(answer: Result<TestLease, Refused<&'static str>>) -> TestLease {
    answer.unwrap_or_else(|refused| panic!("refused: {refused:?}"))
}

/// Polls the future so many times, then drops it.
async fn begin(mut future: std::pin::Pin<&mut (impl Future + ?Sized)>, polls: usize) {
    for _ in 0..polls {
        let over = poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await;
        if over {
            return;
        }
        yield_now().await;
    }
}

fn explore(scenario: fn() -> (Bench, Vec<JoinHandle<()>>)) {
    let run = move || {
        block_on(async move {
            let (bench, tasks) = scenario();
            bench.run(tasks).await;
        });
    };
    shuttle::check_random(run, SCHEDULES);
    shuttle::check_pct(run, SCHEDULES, PREEMPTIONS);
}

#[test]
fn callers_at_once_share_one_dial() {
    explore(|| {
        let bench = Bench::new(1);
        let all_hold = Arc::new(AtomicUsize::new(0));
        let tasks = (0..3).map(|_| {
            let all_hold = Arc::clone(&all_hold);
            bench.task(move |bench| async move {
                let lease = granted(bench.acquire(&key_of("a", 1)).await);
                all_hold.fetch_add(1, Ordering::SeqCst);
                while all_hold.load(Ordering::SeqCst) < 3 {
                    yield_now().await;
                }
                assert_eq!(read(&bench.books.dialed), 1);
                drop(lease);
            })
        });
        (bench.clone(), tasks.collect())
    });
}

#[test]
fn a_failed_dial_is_told_to_all() {
    explore(|| {
        let bench = Bench { failing: true, ..Bench::new(1) };
        let tasks = (0..3).map(|_| {
            bench.task(|bench| async move {
                let answer = bench.acquire(&key_of("a", 1)).await;
                assert_eq!(answer.err(), Some(Refused::Dial("no such VM")));
            })
        });
        (bench.clone(), tasks.collect())
    });
}

#[test]
fn a_caller_that_leaves_at_any_moment_strands_nobody() {
    explore(|| {
        let bench = Bench::new(1);
        let mut tasks: Vec<_> = (0..2)
            .map(|polls| {
                bench.task(move |bench| async move {
                    let caller = bench.core.acquire(&key_of("a", 1));
                    begin(std::pin::pin!(caller.answer()), polls).await;
                })
            })
            .collect();
        tasks.push(bench.task(|bench| bench.use_once(key_of("a", 1))));
        tasks.push(bench.task(|bench| bench.use_once(key_of("b", 1))));
        (bench, tasks)
    });
}

#[test]
fn a_deadline_that_races_with_the_grant_loses_no_connection() {
    explore(|| {
        let bench = Bench::new(1);
        let tasks = vec![
            bench.task(|bench| async move {
                let caller = bench.core.acquire(&key_of("a", 1));
                begin(std::pin::pin!(caller.answer()), 1).await;
                match caller.give_up() {
                    Ok(lease) => assert_eq!(bench.wire(&lease).open.load(Ordering::SeqCst), 1),
                    // Closed: `begin` was given the lease and dropped it.
                    Err(refused) => {
                        assert!(matches!(refused, Refused::TimedOut | Refused::Busy(_) | Refused::Closed));
                    }
                }
            }),
            bench.task(|bench| bench.use_once(key_of("b", 1))),
        ];
        (bench, tasks)
    });
}

#[test]
fn one_slot_serves_all_targets_in_turn() {
    explore(|| {
        let bench = Bench::new(1);
        let tasks = ["a", "b", "c", "a"].map(|vm| bench.task(move |bench| bench.use_once(key_of(vm, 1))));
        (bench, tasks.into())
    });
}

#[test]
fn poison_reaches_every_holder() {
    explore(|| {
        let bench = Bench { most: 4, ..Bench::new(1) };
        let told = Arc::new(AtomicUsize::new(0));
        let holder = || {
            let told = Arc::clone(&told);
            bench.task(|bench| async move {
                let lease = granted(bench.acquire(&key_of("a", 1)).await);
                assert_eq!(bench.core.poisoned(lease.id).await, Poison::Transport);
                told.fetch_add(1, Ordering::SeqCst);
            })
        };
        let mut tasks = vec![holder(), holder()];
        // The holders need not have come for the same connection: the next one is poisoned too.
        tasks.push(bench.task(|bench| async move {
            while read(&told) < 2 {
                let lease = granted(bench.acquire(&key_of("a", 1)).await);
                bench.core.poison(lease.id, Poison::Transport);
                drop(lease);
                yield_now().await;
            }
        }));
        (bench, tasks)
    });
}

#[test]
fn a_later_boot_ends_every_wait_on_an_earlier_one() {
    explore(|| {
        let bench = Bench::new(2);
        let old = |bench: Bench| async move {
            match bench.acquire(&key_of("a", 1)).await {
                Ok(lease) => assert_eq!(bench.core.poisoned(lease.id).await, Poison::Superseded),
                Err(refused) => assert_eq!(refused, Refused::Superseded { newer: Generation(2) }),
            }
        };
        let new = |bench: Bench| async move {
            let lease = granted(bench.acquire(&key_of("a", 2)).await);
            // The word may also come before the old caller; it is then told by the acquire.
            bench.core.supersede(&key_of("a", 2));
            for _ in 0..3 {
                yield_now().await;
            }
            drop(lease);
        };
        let tasks = vec![bench.task(old), bench.task(new)];
        (bench, tasks)
    });
}

#[test]
fn expiry_takes_a_connection_from_nobody_who_holds_it() {
    explore(|| {
        // The new connection may be open before the old one's holder is done.
        let bench = Bench { most: 2, ..Bench::new(1) };
        let first = |bench: Bench| async move {
            let lease = granted(bench.acquire(&key_of("a", 1)).await);
            bench.books.seconds.store(10, Ordering::SeqCst);
            bench.core.expired(lease.id);
            assert_eq!(bench.wire(&lease).open.load(Ordering::SeqCst), 1);
        };
        let tasks = vec![
            bench.task(first),
            bench.task(|bench| bench.use_once(key_of("a", 1))),
            bench.task(|bench| bench.use_once(key_of("b", 1))),
        ];
        (bench, tasks)
    });
}

#[test]
fn shutting_and_cutting_end_everything_under_way() {
    explore(|| {
        let bench = Bench::new(1);
        let holder = |bench: Bench| async move {
            match bench.acquire(&key_of("a", 1)).await {
                Ok(lease) => assert_eq!(bench.core.poisoned(lease.id).await, Poison::Closed),
                Err(refused) => assert_eq!(refused, Refused::Closed),
            }
        };
        let waiter = |bench: Bench| async move {
            match bench.acquire(&key_of("b", 1)).await {
                Ok(lease) => assert_eq!(bench.core.poisoned(lease.id).await, Poison::Closed),
                Err(refused) => assert_eq!(refused, Refused::Closed),
            }
        };
        let closer = |bench: Bench| async move {
            bench.core.shut();
            bench.core.cut();
            bench.core.drained().await;
        };
        let tasks = vec![bench.task(holder), bench.task(waiter), bench.task(closer)];
        (bench, tasks)
    });
}
