//! The pool's task against a driver that only keeps count, under tokio's virtual time.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::super::error::AskError;
use super::super::policy::{LeaseError, LeaseId};
use super::super::server;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

/// What a test has the next checks do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Check {
    #[default]
    Well,
    Hangs,
    Panics,
}

/// VMs that are numbers in a set. It outlives the pool's process, as VMs do.
#[derive(Debug, Default)]
struct Host {
    vms: BTreeSet<MemberId>,
    /// Those that somebody has used since they were made or reset.
    used: BTreeSet<MemberId>,
    check: Check,
    /// Whether the next VM is made by a slower way than was tried first.
    falls_back: bool,
}

#[derive(Debug, Clone, Default)]
struct Numbers(Arc<Mutex<Host>>);

impl Numbers {
    fn host(&self) -> MutexGuard<'_, Host> {
        self.0.lock().unwrap()
    }
}

impl Driver for Numbers {
    type Error = String;

    async fn make(&self, vm: MemberId) -> Result<Made, String> {
        sleep(SECOND).await;
        let fell_back = std::mem::take(&mut self.host().falls_back).then(|| "the disk smells odd".to_owned());
        if self.host().vms.insert(vm) {
            Ok(Made { way: Way::Boot, fell_back })
        } else {
            Err("it exists".into())
        }
    }

    async fn reset(&self, vm: MemberId) -> Result<Made, String> {
        sleep(SECOND).await;
        self.host().used.remove(&vm);
        Ok(Way::Restore.into())
    }

    async fn prove(&self, vm: MemberId) -> Result<(), String> {
        if self.host().used.contains(&vm) { Err("it was used".into()) } else { Ok(()) }
    }

    async fn check(&self, vm: MemberId) -> Result<(), String> {
        let check = std::mem::take(&mut self.host().check);
        match check {
            Check::Well => {}
            Check::Hangs => sleep(HOUR).await,
            Check::Panics => panic!("a driver that is broken"),
        }
        if self.host().vms.contains(&vm) { Ok(()) } else { Err("it is gone".into()) }
    }

    async fn destroy(&self, vm: MemberId) -> Result<(), String> {
        self.host().vms.remove(&vm);
        self.host().used.remove(&vm);
        Ok(())
    }

    fn existing(&self) -> Result<Vec<MemberId>, String> {
        Ok(self.host().vms.iter().copied().collect())
    }
}

/// A pool and what outlives it.
struct Bench {
    directory: tempfile::TempDir,
    driver: Numbers,
    began: Instant,
    news: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    fn new() -> Bench {
        Bench {
            directory: tempfile::tempdir().unwrap(),
            driver: Numbers::default(),
            began: Instant::now(),
            news: Arc::default(),
        }
    }

    fn serve(&self, min: usize, max: usize) -> (Pool, JoinHandle<Result<(), PoolError>>) {
        let (began, news) = (self.began, Arc::clone(&self.news));
        let setup = Setup {
            name: "web",
            directory: self.directory.path(),
            host_boot: "boot",
            bounds: Bounds { min, max, parallel: max, ..Bounds::default() },
            seed: 1,
            clock: Box::new(move || SECOND + began.elapsed()),
            news: Box::new(move |new| news.lock().unwrap().push(new.to_string())),
        };
        let (service, pool) = Service::open(setup, self.driver.clone()).unwrap();
        (pool, tokio::spawn(service.run()))
    }

    async fn use_up(&self, pool: &Pool) -> LeaseId {
        let lease = pool.acquire(10 * SECOND, HOUR).await.unwrap().lease;
        self.driver.host().used.insert(lease.vm);
        lease
    }
}

#[tokio::test(start_paused = true)]
async fn vms_go_round_and_are_reset_in_between() {
    let bench = Bench::new();
    let (pool, served) = bench.serve(1, 1);
    for uses in 1..=3 {
        let lease = bench.use_up(&pool).await;
        assert_eq!(lease, LeaseId { vm: MemberId(1), uses });
        pool.release(lease.vm, Some(lease)).await.unwrap();
        assert_eq!(pool.release(lease.vm, Some(lease)).await, Err(AskError::Lease(LeaseError::NotLeased)));
    }
    pool.drain(None).await.unwrap();
    served.await.unwrap().unwrap();
    assert_eq!(bench.driver.host().vms.len(), 0);
    assert_eq!(pool.acquire(SECOND, HOUR).await, Err(AskError::Ended));
}

#[tokio::test(start_paused = true)]
async fn how_each_vm_was_brought_up_is_told_and_forgotten_with_it() {
    let bench = Bench::new();
    bench.driver.host().falls_back = true;
    let (pool, _served) = bench.serve(2, 2);
    sleep(5 * SECOND).await;
    let ways = pool.status().await.unwrap().ways;
    assert_eq!((ways.counts, ways.fell_back), (BTreeMap::from([(Way::Boot, 2)]), 1));
    let news = bench.news.lock().unwrap().join("\n");
    assert!(news.contains("the disk smells odd; booted it instead"), "{news}");
    let first = bench.use_up(&pool).await;
    bench.driver.host().check = Check::Hangs;
    let _second = timeout(SECOND, pool.acquire(SECOND, HOUR)).await;
    pool.release(first.vm, Some(first)).await.unwrap();
    sleep(20 * SECOND).await;
    // One was reset; the other died, and a third was made.
    let ways = pool.status().await.unwrap().ways;
    assert_eq!(ways.counts, BTreeMap::from([(Way::Boot, 3), (Way::Restore, 1)]));
    let names: Vec<&str> = ways.vms.keys().map(String::as_str).collect();
    assert!(names.len() == 2 && names.contains(&"web-3"), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_gives_its_place_up_and_one_that_stays_is_told_in_time() {
    let bench = Bench::new();
    let (pool, _served) = bench.serve(1, 1);
    let lease = bench.use_up(&pool).await;
    let left = timeout(SECOND, pool.acquire(HOUR, HOUR)).await;
    assert!(left.is_err());
    let status = pool.status().await.unwrap().status;
    assert_eq!((status.waiting, status.counts.cancelled), (0, 1));
    assert_eq!(pool.acquire(SECOND, HOUR).await, Err(AskError::Refused(Refusal::TimedOut)));
    pool.release(lease.vm, None).await.unwrap();
    pool.acquire(10 * SECOND, HOUR).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_hangs_or_panics_costs_one_vm_and_not_the_pool() {
    let bench = Bench::new();
    let (pool, _served) = bench.serve(1, 2);
    for check in [Check::Hangs, Check::Panics] {
        bench.driver.host().check = check;
        let lease = bench.use_up(&pool).await;
        pool.release(lease.vm, Some(lease)).await.unwrap();
    }
    let report = pool.status().await.unwrap();
    assert_eq!(report.status.counts.check_failed, 2);
    let news = bench.news.lock().unwrap().join("\n");
    assert!(news.contains("longer than 5 s to check") && news.contains("broke off"), "{news}");
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_was_killed_goes_on_with_its_leases_and_without_strays() {
    let bench = Bench::new();
    let (pool, served) = bench.serve(2, 3);
    let lease = bench.use_up(&pool).await;
    sleep(5 * SECOND).await;
    served.abort();
    assert!(served.await.unwrap_err().is_cancelled());
    bench.driver.host().vms.insert(MemberId(77));
    let (pool, _served) = bench.serve(2, 3);
    assert_eq!(pool.release(lease.vm, Some(lease)).await, Ok(()));
    assert!(!bench.driver.host().vms.contains(&MemberId(77)));
    sleep(5 * SECOND).await;
    let status = pool.status().await.unwrap().status;
    assert_eq!((status.phases["ready"], status.members.len()), (3, 3));
    assert_eq!(status.counts.made, 0, "VMs that were there were made again");
}

#[tokio::test(start_paused = true)]
async fn at_the_limit_of_a_drain_holders_lose_their_vms() {
    let bench = Bench::new();
    let (pool, served) = bench.serve(1, 1);
    bench.use_up(&pool).await;
    pool.drain(Some(3 * SECOND)).await.unwrap();
    served.await.unwrap().unwrap();
    assert_eq!(bench.driver.host().vms.len(), 0);
}

#[tokio::test]
async fn a_client_that_goes_away_while_it_waits_is_out_of_the_line() {
    use tokio::io::AsyncWriteExt as _;

    let bench = Bench::new();
    let (pool, _served) = bench.serve(0, 1);
    bench.driver.host().check = Check::Hangs;
    let socket = bench.directory.path().join("pool.sock");
    let listener = server::listen(&socket).unwrap();
    let serving = pool.clone();
    let server = tokio::spawn(async move {
        server::serve(listener, "web", &serving, std::future::pending()).await;
    });
    let mut client = tokio::net::UnixStream::connect(&socket).await.unwrap();
    client.write_all(b"{\"request\":\"acquire\",\"wait_ms\":60000,\"ttl_ms\":1000}\n").await.unwrap();
    while pool.status().await.unwrap().status.waiting == 0 {}
    drop(client);
    while pool.status().await.unwrap().status.waiting == 1 {}
    assert_eq!(pool.status().await.unwrap().status.counts.cancelled, 1);
    server.abort();
}
