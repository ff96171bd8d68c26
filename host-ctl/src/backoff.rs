//! How to wait for what cannot be pushed: try at once, then less and less often, up to a deadline.

use std::future::Future;

use tokio::time::{Duration, Instant, sleep_until};

/// The sleep after the first try.
const FIRST: Duration = Duration::from_millis(5);

/// The longest sleep.
const CAP: Duration = Duration::from_millis(500);

/// The waits between tries: 5 ms, doubled up to 500 ms, each shortened by up to a quarter at random so that many who
/// wait for the same thing do not try in step. The last one is cut to the deadline.
#[derive(Debug)]
pub struct Backoff<J> {
    next: Duration,
    deadline: Instant,
    jitter: J,
}

impl<J: FnMut() -> u8> Backoff<J> {
    /// Waits that end at `deadline`. `jitter` gives random bytes.
    pub fn new(deadline: Instant, jitter: J) -> Backoff<J> {
        Backoff { next: FIRST, deadline, jitter }
    }

    /// When to try again; `None` when the deadline has passed.
    pub fn next(&mut self, now: Instant) -> Option<Instant> {
        if now >= self.deadline {
            return None;
        }
        let shortened = self.next - self.next * u32::from((self.jitter)()) / (4 * 256);
        self.next = (self.next * 2).min(CAP);
        Some(self.deadline.min(now + shortened))
    }
}

/// What a try came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Attempt<T, E> {
    /// What was waited for is there, or can never come.
    Done(T),
    /// Not yet, and why; the last of these is what the wait ends in.
    NotYet(E),
}

/// Tries until it is done, or until the deadline: then the last try's reason. The first try is at once, and one more is
/// made at the deadline itself.
///
/// # Errors
/// The reason of the last [`Attempt::NotYet`].
pub async fn retry<T, E, F: Future<Output = Attempt<T, E>>>(
    deadline: Instant,
    jitter: impl FnMut() -> u8,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E> {
    let mut backoff = Backoff::new(deadline, jitter);
    loop {
        let reason = match attempt().await {
            Attempt::Done(value) => return Ok(value),
            Attempt::NotYet(reason) => reason,
        };
        match backoff.next(Instant::now()) {
            Some(next) => sleep_until(next).await,
            None => return Err(reason),
        }
    }
}

/// A random byte, or none of it where the kernel gives none: jitter is no secret.
#[must_use]
pub fn jitter() -> u8 {
    crate::random::bytes::<1>().map_or(0, |[byte]| byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The instants in ms at which tries are made until a deadline after `deadline` ms.
    async fn tries(deadline: u64, jitter: u8) -> Vec<u128> {
        let start = Instant::now();
        let mut at = Vec::new();
        let result: Result<(), &str> = retry(
            start + Duration::from_millis(deadline),
            || jitter,
            || {
                at.push(start.elapsed().as_millis());
                async { Attempt::NotYet("still not there") }
            },
        )
        .await;
        assert_eq!(result, Err("still not there"));
        at
    }

    #[tokio::test(start_paused = true)]
    async fn tries_are_at_once_then_doubled_to_the_cap_and_cut_to_the_deadline() {
        assert_eq!(tries(2_200, 0).await, [0, 5, 15, 35, 75, 155, 315, 635, 1_135, 1_635, 2_135, 2_200]);
    }

    #[test]
    fn jitter_shortens_a_wait_by_less_than_a_quarter() {
        let start = Instant::now();
        let mut backoff = Backoff::new(start + Duration::from_secs(60), || 255);
        let waits: Vec<u128> = (0..10).map(|_| (backoff.next(start).unwrap() - start).as_micros()).collect();
        assert_eq!(waits[..3], [3_754, 7_509, 15_019]);
        assert_eq!(waits[9], 375_488);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_has_passed_still_allows_one_try() {
        assert_eq!(tries(0, 0).await, [0]);
    }

    #[tokio::test(start_paused = true)]
    async fn it_stops_the_moment_it_is_done() {
        let mut left = 3;
        let deadline = Instant::now() + Duration::from_secs(60);
        let start = Instant::now();
        let result: Result<&str, ()> = retry(
            deadline,
            || 0,
            || {
                left -= 1;
                std::future::ready(if left == 0 { Attempt::Done("there") } else { Attempt::NotYet(()) })
            },
        )
        .await;
        assert_eq!(result, Ok("there"));
        assert_eq!(start.elapsed().as_millis(), 15);
    }
}
