use super::super::{DIAL_LIMIT, DialError};
use super::*;

/// All that so many callers at once are given.
async fn all(pool: &FakePool, callers: usize) -> Vec<Asked> {
    let asked: Vec<_> = (0..callers).map(|_| ask(pool, &key("a"), patient())).collect();
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(asked.await.unwrap());
    }
    answers
}

#[track_caller]
fn dial_error(asked: Asked) -> Arc<DialError<world::Unplugged>> {
    let error = asked.unwrap_err();
    let AcquireError::Dial(error) = error else { panic!("not a failed dial: {error}") };
    error
}

#[tokio::test(start_paused = true)]
async fn sixty_four_callers_at_once_are_one_dial() {
    let (pool, world) = pool();
    world.next_dial(Connecting::After(seconds(1)));
    let handles: Vec<_> = all(&pool, 64).await.into_iter().map(held).collect();
    for handle in &handles {
        assert_eq!(serial(handle).await, 1);
    }
    assert_eq!(world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_dial_is_one_error_shared_by_all_who_waited() {
    let (pool, world) = pool();
    world.next_dial(Connecting::Failing(seconds(1)));
    let errors: Vec<_> = all(&pool, 64).await.into_iter().map(dial_error).collect();
    assert!(errors.iter().all(|error| Arc::ptr_eq(error, &errors[0])));
    assert_eq!(errors[0].to_string(), "dial 1: nothing is plugged in");
    assert_eq!(world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_caller_after_a_failed_dial_dials_anew() {
    let (pool, world) = pool();
    world.next_dial(Connecting::Failing(Duration::ZERO));
    dial_error(pool.acquire(&key("a"), patient()).await);
    assert_eq!(serial(&held(pool.acquire(&key("a"), patient()).await)).await, 2);
}

#[tokio::test(start_paused = true)]
async fn the_first_caller_may_leave_and_the_others_get_its_dial() {
    let (pool, world) = pool();
    world.next_dial(Connecting::After(seconds(2)));
    let first = ask(&pool, &key("a"), patient());
    let second = ask(&pool, &key("a"), patient());
    quiet().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(serial(&held(second.await.unwrap())).await, 1);
    assert_eq!(world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_everybody_left_is_there_for_the_next_caller() {
    let (pool, world) = pool();
    world.next_dial(Connecting::After(seconds(2)));
    let answer = pool.acquire(&key("a"), Instant::now() + seconds(1)).await;
    assert!(matches!(answer, Err(AcquireError::TimedOut)), "{answer:?}");
    assert_eq!(serial(&held(pool.acquire(&key("a"), patient()).await)).await, 1);
    assert_eq!(world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_dialling_is_an_error_for_all_and_strands_nobody() {
    for connecting in [Connecting::Panicking(seconds(1)), Connecting::PanickingAtOnce] {
        let (pool, world) = pool();
        world.next_dial(connecting);
        for asked in all(&pool, 64).await {
            let error = dial_error(asked).to_string();
            assert!(error.starts_with("the dialer panicked: the dialer "), "{error}");
        }
        assert_eq!(serial(&held(pool.acquire(&key("a"), patient()).await)).await, 2);
        assert_eq!(world.books().dialing, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_hangs_fails_for_all_at_its_limit() {
    let (pool, world) = pool();
    world.next_dial(Connecting::Never);
    let began = Instant::now();
    for asked in all(&pool, 3).await {
        assert_eq!(dial_error(asked).to_string(), "timed out after 10 s waiting for the dialer");
    }
    assert_eq!(began.elapsed().as_secs(), DIAL_LIMIT.as_secs());
    assert_eq!(world.books().dialing, 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_there_is_given_even_at_the_deadline() {
    let (pool, _world) = pool();
    drop(held(pool.acquire(&key("a"), patient()).await));
    held(pool.acquire(&key("a"), Instant::now()).await);
}

#[tokio::test(start_paused = true)]
async fn a_dialer_that_backs_off_is_still_one_dial_for_all() {
    let (pool, world) = pool();
    world.next_dial(Connecting::AtThirdTry);
    let began = Instant::now();
    for asked in all(&pool, 64).await {
        assert_eq!(serial(&held(asked)).await, 1);
    }
    // The backoff's first two sleeps.
    assert_eq!(began.elapsed().as_millis(), 15);
    assert_eq!(world.dials(), 1);
}
