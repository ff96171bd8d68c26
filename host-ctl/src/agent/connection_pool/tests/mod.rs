//! The pool over a dialer that only counts, under tokio's virtual time: the clock moves when nothing else can.
//!
//! `dialing`, `ttl`, `room`, `poison`, `generation` and `closing` are what a user sees; `exploration` runs the core
//! under all the schedules it can find.

mod closing;
mod dialing;
mod exploration;
mod generation;
mod poison;
mod room;
mod ttl;
mod world;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use self::world::{Connecting, Fake, World};
use super::{AcquireError, Generation, Handle, Key, Pool, Settings};

/// The TTL of these pools.
const TTL: Duration = Duration::from_secs(50);

type FakePool = Arc<Pool<Fake>>;

fn pool() -> (FakePool, Arc<World>) {
    pool_with(TTL)
}

fn pool_with(ttl: Duration) -> (FakePool, Arc<World>) {
    let world = Arc::new(World::default());
    (Arc::new(Pool::new(Fake(Arc::clone(&world)), Settings { ttl })), world)
}

fn key(vm: &str) -> Key {
    Key::new(vm, Generation(1))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A deadline that no test means to reach.
fn patient() -> Instant {
    Instant::now() + seconds(1_000)
}

/// Asks from a task of its own.
fn ask(pool: &FakePool, key: &Key, deadline: Instant) -> tokio::task::JoinHandle<Asked> {
    let (pool, key) = (Arc::clone(pool), key.clone());
    tokio::spawn(async move { pool.acquire(&key, deadline).await })
}

type Asked = Result<Handle<Fake>, AcquireError<world::Unplugged>>;

#[track_caller]
fn held(asked: Asked) -> Handle<Fake> {
    asked.expect("a connection")
}

/// Lets every task run until it waits for the clock. Virtual time moves on only when there is nothing else to do.
async fn quiet() {
    sleep(Duration::from_millis(1)).await;
}

/// Which of the world's connections the handle leads to.
async fn serial(handle: &Handle<Fake>) -> usize {
    let serial = handle.perform(|connection| async move { Ok::<_, world::Mishap>(connection.serial) });
    serial.await.expect("a connection that works")
}
