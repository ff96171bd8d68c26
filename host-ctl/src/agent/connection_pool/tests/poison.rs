use std::future::pending;

use tokio::time::timeout;

use super::super::{Poison, UseError};
use super::world::Mishap;
use super::*;

/// Two holders of one connection.
async fn two(pool: &FakePool) -> (Handle<Fake>, Handle<Fake>) {
    (held(pool.acquire(&key("a"), patient()).await), held(pool.acquire(&key("a"), patient()).await))
}

/// Whether the handle's connection is poisoned by now, and why.
async fn state(handle: &Handle<Fake>) -> Option<Poison> {
    timeout(Duration::ZERO, handle.poisoned()).await.ok()
}

#[tokio::test(start_paused = true)]
async fn poison_wakes_the_other_holders_and_the_next_caller_dials() {
    let (pool, world) = pool();
    let (one, other) = two(&pool).await;
    let waiting = tokio::spawn(async move { (other.poisoned().await, other) });
    quiet().await;
    one.poison(Poison::Explicit);
    let (reason, other) = waiting.await.unwrap();
    assert_eq!(reason, Poison::Explicit);
    assert_eq!(serial(&held(pool.acquire(&key("a"), patient()).await)).await, 2);
    assert_eq!(world.books().closed.len(), 0, "two still hold it");
    drop((one, other));
    quiet().await;
    assert_eq!(world.books().closed.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_operation_under_way_ends_when_another_holder_poisons_the_connection() {
    let (pool, _world) = pool();
    let (one, other) = two(&pool).await;
    let stuck = tokio::spawn(async move { other.perform(|_| pending::<Result<(), Mishap>>()).await });
    quiet().await;
    one.poison(Poison::Explicit);
    assert!(matches!(stuck.await.unwrap(), Err(UseError::Poisoned(Poison::Explicit))));
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_connection_performs_nothing() {
    let (pool, _world) = pool();
    let (one, other) = two(&pool).await;
    one.poison(Poison::Explicit);
    let outcome = other.perform(|_| async { panic!("performed") as Result<(), Mishap> }).await;
    assert!(matches!(outcome, Err(UseError::Poisoned(Poison::Explicit))));
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_transport_and_of_the_framing_poison_by_their_type() {
    for (mishap, reason) in [(Mishap::Transport, Poison::Transport), (Mishap::Framing, Poison::Framing)] {
        let (pool, _world) = pool();
        let (one, other) = two(&pool).await;
        let outcome = one.perform(|_| async { Err::<(), _>(mishap) }).await;
        assert!(matches!(outcome, Err(UseError::Failed(_))));
        assert_eq!(state(&other).await, Some(reason));
    }
}

#[tokio::test(start_paused = true)]
async fn an_applications_error_poisons_nothing_whatever_its_words() {
    let (pool, world) = pool();
    let (one, other) = two(&pool).await;
    for words in ["connection reset by peer", "broken pipe", "invalid frame", "poisoned"] {
        let outcome = one.perform(|_| async { Err::<(), _>(Mishap::Application(words)) }).await;
        assert!(matches!(outcome, Err(UseError::Failed(Mishap::Application(_)))));
    }
    assert_eq!(state(&other).await, None);
    drop((one, other));
    assert_eq!(serial(&held(pool.acquire(&key("a"), patient()).await)).await, 1);
    assert_eq!(world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_use_given_up_half_way_poisons() {
    let (pool, _world) = pool();
    let (one, other) = two(&pool).await;
    let operation = one.perform(|_| pending::<Result<(), Mishap>>());
    timeout(seconds(1), operation).await.unwrap_err();
    assert_eq!(state(&other).await, Some(Poison::Unfinished));
}

#[tokio::test(start_paused = true)]
async fn a_handle_dropped_between_uses_poisons_nothing() {
    let (pool, _world) = pool();
    let (one, other) = two(&pool).await;
    assert_eq!(serial(&one).await, 1);
    drop(one);
    assert_eq!(state(&other).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_use_poisons() {
    let (pool, _world) = pool();
    let (one, other) = two(&pool).await;
    let task = tokio::spawn(async move {
        let _ = one.perform(|_| async { panic!("half-way") as Result<(), Mishap> }).await;
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(state(&other).await, Some(Poison::Panicked));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_panics_between_uses_poisons() {
    let (pool, world) = pool();
    let (one, other) = two(&pool).await;
    let task = tokio::spawn(async move {
        let _held = one;
        panic!("elsewhere");
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(state(&other).await, Some(Poison::Panicked));
    drop(other);
    quiet().await;
    assert_eq!(world.books().alive, 0);
}

#[tokio::test(start_paused = true)]
async fn the_first_reason_stands() {
    let (pool, _world) = pool();
    let (one, other) = two(&pool).await;
    one.poison(Poison::Framing);
    other.poison(Poison::Explicit);
    assert_eq!((state(&one).await, state(&other).await), (Some(Poison::Framing), Some(Poison::Framing)));
}
