//! Who does which item when: the order, the deadlines and the stopping, whatever the items are.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use firstlight_protocol::message::batch::{Item, ItemResult, Operation, Outcome, Skip};
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::clock;

/// The items of one batch on their way.
pub(super) struct Lanes<'a> {
    items: &'a [Item],
    deadline: Instant,
    stop_on_error: bool,
    progress: Mutex<Progress>,
}

struct Progress {
    next: usize,
    failed: bool,
    results: Vec<Option<(Duration, Outcome)>>,
}

impl<'a> Lanes<'a> {
    pub(super) fn new(items: &'a [Item], deadline: Instant, stop_on_error: bool) -> Lanes<'a> {
        let results = items.iter().map(|_| None).collect();
        Lanes {
            items,
            deadline,
            stop_on_error,
            progress: Mutex::new(Progress { next: 0, failed: false, results }),
        }
    }

    /// Performs the items, `parallel` at one time. `perform` has to come back by the deadline it is given.
    pub(super) async fn run<P, F>(&self, parallel: u16, perform: P)
    where
        P: Fn(&'a Operation, Instant) -> F,
        F: Future<Output = Outcome>,
    {
        let lanes = self.items.len().min(parallel.into());
        let mut lanes: Vec<_> = (0..lanes).map(|_| Box::pin(self.lane(&perform))).collect();
        poll_fn(|context| {
            lanes.retain_mut(|lane| Pin::new(lane).poll(context).is_pending());
            if lanes.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    async fn lane<P, F>(&self, perform: &P)
    where
        P: Fn(&'a Operation, Instant) -> F,
        F: Future<Output = Outcome>,
    {
        while let Some((index, item)) = self.take() {
            let started = Instant::now();
            let own = item.timeout_ms.map(|timeout| started + Duration::from_millis(timeout.into()));
            let deadline = own.map_or(self.deadline, |own| own.min(self.deadline));
            let outcome = perform(&item.operation, deadline).await;
            self.put(index, started.elapsed(), outcome);
            // Most operations wait for nothing; a batch of those must not keep everybody else waiting.
            yield_now().await;
        }
    }

    fn take(&self) -> Option<(usize, &'a Item)> {
        let mut progress = self.lock();
        if (progress.failed && self.stop_on_error) || Instant::now() >= self.deadline {
            return None;
        }
        let index = progress.next;
        let item = self.items.get(index)?;
        progress.next += 1;
        Some((index, item))
    }

    fn put(&self, index: usize, elapsed: Duration, outcome: Outcome) {
        let mut progress = self.lock();
        progress.failed |= outcome.is_failure();
        progress.results[index] = Some((elapsed, outcome));
    }

    /// What became of each item, in their order.
    pub(super) fn into_results(self) -> Vec<ItemResult> {
        let progress = self.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        let skip = if progress.failed && self.stop_on_error { Skip::AfterError } else { Skip::Deadline };
        let skipped = (Duration::ZERO, Outcome::Skipped(skip));
        let results = self.items.iter().zip(progress.results).map(|(item, result)| {
            let (elapsed, outcome) = result.unwrap_or_else(|| skipped.clone());
            ItemResult { id: item.id.clone(), elapsed_us: clock::microseconds(elapsed), outcome }
        });
        results.collect()
    }

    /// No code panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use firstlight_protocol::message::batch::Answer;
    use tokio::time::{sleep, sleep_until};

    use super::*;
    use crate::failure;

    /// An item that, to [`perform`], takes as long as it has bytes in ms, and fails if they begin with `!`.
    fn item(bytes: &str, timeout_ms: Option<u32>) -> Item {
        Item { id: bytes.into(), timeout_ms, operation: Operation::Ping(bytes.into()) }
    }

    async fn perform(operation: &Operation, deadline: Instant) -> Outcome {
        let Operation::Ping(bytes) = operation else { panic!("{operation:?}") };
        let end = Instant::now() + Duration::from_millis(bytes.len() as u64);
        sleep_until(end.min(deadline)).await;
        if end > deadline {
            Outcome::TimedOut(None)
        } else if bytes.starts_with(b"!") {
            Outcome::Error(failure::invalid("test", "as told"))
        } else {
            Outcome::Done(Answer::Pong(bytes.clone()))
        }
    }

    /// The outcomes as a letter each: done, error, skipped after error or at deadline, timed out.
    async fn outcomes(
        items: &[Item],
        parallel: u16,
        stop_on_error: bool,
        deadline: u64,
    ) -> (String, Duration) {
        let begun = Instant::now();
        let lanes = Lanes::new(items, begun + Duration::from_millis(deadline), stop_on_error);
        lanes.run(parallel, perform).await;
        let letters = lanes.into_results().into_iter().map(|result| match result.outcome {
            Outcome::Done(_) => 'd',
            Outcome::Error(_) => 'e',
            Outcome::Skipped(Skip::AfterError) => 'a',
            Outcome::Skipped(Skip::Deadline) => 's',
            Outcome::TimedOut(_) => 't',
        });
        (letters.collect(), begun.elapsed())
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn one_lane_is_one_after_the_other_and_several_are_not() {
        let items = vec![item("aaaaa", None); 6];
        assert_eq!(outcomes(&items, 1, false, 1000).await, ("dddddd".into(), ms(30)));
        assert_eq!(outcomes(&items, 3, false, 1000).await, ("dddddd".into(), ms(10)));
        assert_eq!(outcomes(&items, 64, false, 1000).await, ("dddddd".into(), ms(5)));
        assert_eq!(outcomes(&[], 64, false, 1000).await, (String::new(), ms(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_hides_no_other_result_unless_asked_to() {
        let items = [item("a", None), item("!", None), item("b", None)];
        assert_eq!(outcomes(&items, 1, false, 1000).await.0, "ded");
        assert_eq!(outcomes(&items, 1, true, 1000).await.0, "dea");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_under_way_when_another_fails_goes_on() {
        let items = [item("!!", None), item("aaaaaaaa", None), item("b", None)];
        assert_eq!(outcomes(&items, 2, true, 1000).await, ("eda".into(), ms(8)));
    }

    #[tokio::test(start_paused = true)]
    async fn each_item_has_its_own_time() {
        let items = [item("aaaaa", Some(3)), item("aaaaa", Some(5)), item("aaaaa", None)];
        assert_eq!(outcomes(&items, 1, false, 1000).await, ("tdd".into(), ms(13)));
        assert_eq!(outcomes(&items, 1, true, 1000).await.0, "taa");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_done_before_the_deadline_survives_it() {
        let items = [item("aaaaa", None), item("aaaaa", Some(100)), item("aaaaa", None)];
        assert_eq!(outcomes(&items, 1, false, 8).await, ("dts".into(), ms(8)));
        assert_eq!(outcomes(&items, 1, false, 0).await, ("sss".into(), ms(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn others_get_their_turn_between_items_that_wait_for_nothing() {
        let turns = AtomicU32::new(0);
        let items = vec![item("", None); 50];
        let lanes = Lanes::new(&items, Instant::now() + ms(1000), false);
        let instantly = |_: &Operation, _| async { Outcome::Done(Answer::Pong(Vec::new())) };
        let other = async {
            loop {
                turns.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        };
        tokio::select! {
            () = lanes.run(1, instantly) => {}
            () = other => {}
            () = sleep(ms(1000)) => {}
        }
        assert!(turns.load(Ordering::Relaxed) >= 25, "{turns:?}");
    }
}
