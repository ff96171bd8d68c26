use std::future::pending;

use tokio::runtime;

use super::super::{CLOSE_LIMIT, Drained, Poison, UseError};
use super::world::{Closing, Mishap};
use super::*;

/// Tasks of this test's runtime.
fn tasks() -> usize {
    runtime::Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn an_idle_pool_closes_at_once_and_leaves_no_connection_and_no_task() {
    let before = tasks();
    let (pool, world) = pool();
    for number in 0..5 {
        drop(held(pool.acquire(&key(&format!("vm-{number}")), patient()).await));
    }
    let began = Instant::now();
    assert_eq!(pool.close(patient()).await, Drained { cut: 0 });
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!((world.books().closed.len(), world.books().alive, tasks()), (5, 0, before));
}

#[tokio::test(start_paused = true)]
async fn holders_may_finish_before_the_deadline() {
    let (pool, world) = pool();
    let handle = held(pool.acquire(&key("a"), patient()).await);
    let user = tokio::spawn(async move {
        let slow = handle.perform(|connection| async move {
            sleep(seconds(3)).await;
            Ok::<_, Mishap>(connection.serial)
        });
        slow.await
    });
    quiet().await;
    let began = Instant::now();
    assert_eq!(pool.close(began + seconds(10)).await, Drained { cut: 0 });
    assert_eq!(began.elapsed().as_millis(), 2_999);
    assert_eq!(user.await.unwrap().unwrap(), 1);
    assert_eq!((world.books().closed.len(), world.books().alive), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_connections_are_taken_from_their_holders() {
    let before = tasks();
    let (pool, world) = pool();
    let (kept, used) =
        (held(pool.acquire(&key("a"), patient()).await), held(pool.acquire(&key("b"), patient()).await));
    let user = tokio::spawn(async move { used.perform(|_| pending::<Result<(), Mishap>>()).await });
    quiet().await;
    let began = Instant::now();
    assert_eq!(pool.close(began + seconds(10)).await, Drained { cut: 2 });
    assert_eq!(began.elapsed().as_secs(), 10);
    assert!(matches!(user.await.unwrap(), Err(UseError::Poisoned(Poison::Closed))));
    assert_eq!((world.books().closed.len(), world.books().alive), (2, 0));
    assert_eq!(kept.poisoned().await, Poison::Closed);
    drop(kept);
    assert_eq!((world.books().closed.len(), tasks()), (2, before));
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_and_those_who_come_later_are_told() {
    let (pool, world) = pool();
    world.next_dial(Connecting::Never);
    let waiting = ask(&pool, &key("a"), patient());
    quiet().await;
    assert_eq!(pool.close(patient()).await, Drained { cut: 0 });
    assert!(matches!(waiting.await.unwrap(), Err(AcquireError::Closed)));
    assert!(matches!(pool.acquire(&key("a"), patient()).await, Err(AcquireError::Closed)));
    assert_eq!((world.books().dialing, world.books().alive), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_close_that_hangs_or_panics_costs_its_limit_and_leaves_nothing() {
    for (closing, limit) in [(Closing::Never, CLOSE_LIMIT), (Closing::Panicking, Duration::ZERO)] {
        let before = tasks();
        let (pool, world) = pool();
        world.closes(closing);
        drop(held(pool.acquire(&key("a"), patient()).await));
        let began = Instant::now();
        assert_eq!(pool.close(patient()).await, Drained { cut: 0 });
        assert_eq!(began.elapsed().as_secs(), limit.as_secs());
        assert_eq!((world.books().alive, tasks()), (0, before));
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_may_be_closed_twice_at_once() {
    let (pool, world) = pool();
    drop(held(pool.acquire(&key("a"), patient()).await));
    let (one, other) = tokio::join!(pool.close(patient()), pool.close(patient()));
    assert_eq!((one, other), (Drained { cut: 0 }, Drained { cut: 0 }));
    assert_eq!(world.books().closed.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_dropped_leaves_no_connection_and_no_task() {
    let before = tasks();
    let (pool, world) = pool();
    let handle = held(pool.acquire(&key("a"), patient()).await);
    drop(held(pool.acquire(&key("b"), patient()).await));
    drop(pool);
    quiet().await;
    assert_eq!(handle.poisoned().await, Poison::Closed);
    assert_eq!((world.books().alive, world.books().dialing, tasks()), (0, 0, before));
}
