use super::super::{Limit, MAX_CONNECTIONS, MAX_TARGETS, MAX_WAITERS};
use super::*;

/// Holds on as many targets as there may be, `vm-0` first.
async fn full(pool: &FakePool) -> Vec<Handle<Fake>> {
    let mut handles = Vec::new();
    for number in 0..MAX_TARGETS {
        handles.push(held(pool.acquire(&key(&format!("vm-{number}")), patient()).await));
    }
    handles
}

#[tokio::test(start_paused = true)]
async fn when_all_targets_are_in_use_a_caller_waits_to_its_deadline_and_is_told_busy() {
    let (pool, world) = pool();
    let _handles = full(&pool).await;
    let began = Instant::now();
    let answer = pool.acquire(&key("one-more"), began + seconds(7)).await;
    assert!(matches!(answer, Err(AcquireError::Busy(Limit::Targets(MAX_TARGETS)))), "{answer:?}");
    assert_eq!(
        answer.unwrap_err().to_string(),
        "the connection pool is busy: all 32 targets are in use; release a connection, or wait longer",
    );
    assert_eq!(began.elapsed().as_secs(), 7);
    assert_eq!((world.dials(), world.books().closed.len()), (MAX_TARGETS, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_pool_still_shares_what_it_has() {
    let (pool, world) = pool();
    let _handles = full(&pool).await;
    held(pool.acquire(&key("vm-3"), patient()).await);
    assert_eq!(world.dials(), MAX_TARGETS);
}

#[tokio::test(start_paused = true)]
async fn the_idle_target_that_was_used_least_recently_goes_first() {
    let (pool, world) = pool();
    let mut handles = full(&pool).await;
    for number in [9, 4] {
        drop(handles.remove(number));
    }
    drop(held(pool.acquire(&key("vm-9"), patient()).await));
    let _first = held(pool.acquire(&key("one-more"), patient()).await);
    assert_eq!(world.books().closed, ["vm-4"]);
    let _second = held(pool.acquire(&key("another"), patient()).await);
    assert_eq!(world.books().closed, ["vm-4", "vm-9"]);
}

#[tokio::test(start_paused = true)]
async fn there_are_never_more_than_the_most_targets() {
    let (pool, world) = pool();
    for number in 0..MAX_TARGETS * 4 {
        held(pool.acquire(&key(&format!("vm-{number}")), patient()).await);
        assert!(world.books().alive <= MAX_TARGETS);
    }
    assert_eq!(world.books().alive, MAX_TARGETS);
}

#[tokio::test(start_paused = true)]
async fn dialling_an_expired_target_again_evicts_no_neighbour() {
    let (pool, world) = pool();
    drop(held(pool.acquire(&key("old"), patient()).await));
    sleep(TTL - seconds(1)).await;
    for number in 1..MAX_TARGETS {
        drop(held(pool.acquire(&key(&format!("vm-{number}")), patient()).await));
    }
    sleep(seconds(1)).await;
    let _again = held(pool.acquire(&key("old"), patient()).await);
    quiet().await;
    assert_eq!(world.books().closed, ["old"]);
    assert_eq!(world.books().alive, MAX_TARGETS);
}

#[tokio::test(start_paused = true)]
async fn dialling_a_target_again_that_is_expired_and_held_evicts_no_neighbour() {
    let (pool, world) = pool();
    let _old = held(pool.acquire(&key("old"), patient()).await);
    sleep(TTL).await;
    for number in 1..MAX_TARGETS {
        drop(held(pool.acquire(&key(&format!("vm-{number}")), patient()).await));
    }
    let _again = held(pool.acquire(&key("old"), patient()).await);
    assert_eq!(world.books().closed, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_served_in_the_order_they_came() {
    let (pool, world) = pool();
    let mut handles = full(&pool).await;
    let mut waiting = Vec::new();
    for name in ["x", "y", "z"] {
        waiting.push(ask(&pool, &key(name), patient()));
        quiet().await;
    }
    for (freed, name) in ["x", "y", "z"].iter().enumerate() {
        handles.pop();
        quiet().await;
        assert_eq!(world.books().dialed[MAX_TARGETS + freed..], [*name]);
        assert_eq!(waiting.iter().filter(|asked| asked.is_finished()).count(), freed + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_was_evicted_for_another_stands_in_line_behind_it() {
    let (pool, world) = pool();
    world.closes(world::Closing::Never);
    let mut handles = full(&pool).await;
    drop(handles.pop());
    let other = ask(&pool, &key("other"), patient());
    quiet().await;
    let again = ask(&pool, &key(&format!("vm-{}", MAX_TARGETS - 1)), patient());
    sleep(seconds(2)).await;
    assert!(other.is_finished(), "the close was given up and the slot is free");
    assert!(!again.is_finished(), "the slot is the other's");
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_the_line_holds_nobody_up() {
    let (pool, _world) = pool();
    let mut handles = full(&pool).await;
    let first = ask(&pool, &key("x"), patient());
    quiet().await;
    let second = ask(&pool, &key("y"), patient());
    quiet().await;
    first.abort();
    handles.pop();
    held(second.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn one_waiter_too_many_is_refused_at_once() {
    let (pool, _world) = pool();
    let _handles = full(&pool).await;
    let _waiting: Vec<_> = (0..MAX_WAITERS).map(|_| ask(&pool, &key("x"), patient())).collect();
    quiet().await;
    let began = Instant::now();
    let answer = pool.acquire(&key("y"), patient()).await;
    assert!(matches!(answer, Err(AcquireError::Busy(Limit::Waiters(MAX_WAITERS)))), "{answer:?}");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_is_used_up_but_still_held_is_bounded_too() {
    let (pool, world) = pool_with(Duration::ZERO);
    let mut handles = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        handles.push(held(pool.acquire(&key("a"), patient()).await));
    }
    let answer = pool.acquire(&key("a"), Instant::now() + seconds(1)).await;
    assert!(matches!(answer, Err(AcquireError::Busy(Limit::Connections(MAX_CONNECTIONS)))), "{answer:?}");
    handles.pop();
    handles.push(held(pool.acquire(&key("a"), patient()).await));
    assert_eq!(world.books().alive, MAX_CONNECTIONS);
}
