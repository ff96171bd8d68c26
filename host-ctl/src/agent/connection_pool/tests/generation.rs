use super::super::Poison;
use super::*;

fn boot(generation: u64) -> Key {
    Key::new("a", Generation(generation))
}

#[track_caller]
fn newer(asked: &Asked) -> u64 {
    match asked {
        Err(AcquireError::Superseded { newer }) => newer.0,
        other => panic!("not superseded: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_boot_poisons_what_leads_to_an_earlier_one() {
    let (pool, world) = pool();
    let old = held(pool.acquire(&boot(1), patient()).await);
    let elsewhere = held(pool.acquire(&key("b"), patient()).await);
    let new = held(pool.acquire(&boot(2), patient()).await);
    assert_eq!(old.poisoned().await, Poison::Superseded);
    assert_eq!((serial(&elsewhere).await, serial(&new).await), (2, 3));
    drop(old);
    quiet().await;
    assert_eq!(world.books().closed, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn word_of_a_later_boot_is_enough() {
    let (pool, world) = pool();
    drop(held(pool.acquire(&boot(1), patient()).await));
    pool.supersede(&boot(2));
    quiet().await;
    assert_eq!((world.dials(), world.books().alive), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_an_old_key_is_told_the_newer_boot() {
    let (pool, world) = pool();
    let _new = held(pool.acquire(&boot(3), patient()).await);
    let answer = pool.acquire(&boot(2), patient()).await;
    assert_eq!(newer(&answer), 3);
    assert_eq!(answer.unwrap_err().to_string(), "the VM is at boot 3 by now; look it up again");
    assert_eq!(world.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_dial_to_an_earlier_boot_is_given_up_for_all_who_wait() {
    let (pool, world) = pool();
    world.next_dial(Connecting::Never);
    let waiting = [ask(&pool, &boot(1), patient()), ask(&pool, &boot(1), patient())];
    quiet().await;
    pool.supersede(&boot(2));
    for asked in waiting {
        assert_eq!(newer(&asked.await.unwrap()), 2);
    }
    quiet().await;
    assert_eq!(world.books().dialing, 0);
}

#[tokio::test(start_paused = true)]
async fn those_in_line_for_an_earlier_boot_are_told() {
    let (pool, _world) = pool();
    let mut handles = Vec::new();
    for number in 0..super::super::MAX_TARGETS {
        handles.push(held(pool.acquire(&key(&format!("vm-{number}")), patient()).await));
    }
    let old = ask(&pool, &boot(1), patient());
    quiet().await;
    let new = ask(&pool, &boot(2), patient());
    assert_eq!(newer(&old.await.unwrap()), 2);
    handles.pop();
    held(new.await.unwrap());
}
