use tokio::time::sleep_until;

use super::*;

#[tokio::test(start_paused = true)]
async fn the_ttl_counts_from_the_start_of_the_dial_however_often_it_is_used() {
    let (pool, world) = pool();
    let began = Instant::now();
    world.next_dial(Connecting::After(seconds(9)));
    for _ in 0..8 {
        assert_eq!(serial(&held(pool.acquire(&key("a"), patient()).await)).await, 1);
        sleep(seconds(5)).await;
    }
    sleep_until(began + TTL - Duration::from_millis(1)).await;
    assert_eq!(serial(&held(pool.acquire(&key("a"), patient()).await)).await, 1);
    sleep_until(began + TTL).await;
    assert_eq!(serial(&held(pool.acquire(&key("a"), patient()).await)).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_when_its_ttl_passes() {
    let (pool, world) = pool();
    drop(held(pool.acquire(&key("a"), patient()).await));
    sleep(TTL - Duration::from_millis(1)).await;
    assert_eq!((world.books().closed.len(), world.books().alive), (0, 1));
    sleep(Duration::from_millis(2)).await;
    assert_eq!((world.books().closed.len(), world.books().alive), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn who_holds_an_expired_connection_may_finish_and_others_get_a_new_one() {
    let (pool, world) = pool();
    let old = held(pool.acquire(&key("a"), patient()).await);
    sleep(TTL * 2).await;
    let new = held(pool.acquire(&key("a"), patient()).await);
    assert_eq!((serial(&old).await, serial(&new).await), (1, 2));
    assert_eq!(world.books().closed.len(), 0);
    drop(old);
    quiet().await;
    assert_eq!((world.books().closed.len(), world.books().alive), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_dial_longer_than_the_ttl_serves_those_who_waited_for_it_once() {
    let (pool, world) = pool_with(seconds(1));
    world.next_dial(Connecting::After(seconds(3)));
    assert_eq!(serial(&held(pool.acquire(&key("a"), patient()).await)).await, 1);
    assert_eq!(serial(&held(pool.acquire(&key("a"), patient()).await)).await, 2);
}

#[tokio::test(start_paused = true)]
async fn with_a_ttl_of_zero_each_use_is_one_dial_and_one_close() {
    let (pool, world) = pool_with(Duration::ZERO);
    for uses in 1..=10 {
        let handle = held(pool.acquire(&key("a"), patient()).await);
        assert_eq!(serial(&handle).await, uses);
        // The second operation of one use needs no second dial.
        assert_eq!(serial(&handle).await, uses);
        drop(handle);
        quiet().await;
        assert_eq!((world.dials(), world.books().closed.len(), world.books().alive), (uses, uses, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_ttl_of_zero_uses_at_the_same_time_share_nothing() {
    let (pool, world) = pool_with(Duration::ZERO);
    let asked: Vec<_> = (0..64).map(|_| ask(&pool, &key("a"), patient())).collect();
    let mut serials = Vec::new();
    for asked in asked {
        serials.push(serial(&held(asked.await.unwrap())).await);
    }
    quiet().await;
    serials.sort_unstable();
    assert_eq!(serials, (1..=64).collect::<Vec<_>>());
    assert_eq!((world.books().closed.len(), world.books().alive), (64, 0));
}

#[tokio::test(start_paused = true)]
async fn with_a_ttl_of_zero_a_dial_whose_caller_left_is_closed() {
    let (pool, world) = pool_with(Duration::ZERO);
    world.next_dial(Connecting::After(seconds(2)));
    pool.acquire(&key("a"), Instant::now() + seconds(1)).await.unwrap_err();
    sleep(seconds(2)).await;
    assert_eq!((world.dials(), world.books().closed.len(), world.books().alive), (1, 1, 0));
}
