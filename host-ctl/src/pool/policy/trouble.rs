//! Failures in a row of one kind of work, and how long to wait after each.

use std::time::Duration;

use super::Moment;
use crate::pool::random::Random;

/// Failures in a row after which the pool says that it is degraded and tries one at a time. At one failure in twenty
/// this many in a row are a matter of one in three million.
pub(super) const DEGRADED_AFTER: u32 = 5;

/// The wait after the first failure; it doubles with each that follows.
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How one kind of work fares.
#[derive(Debug)]
pub(super) struct Trouble {
    /// In a row.
    pub(super) failures: u32,
    /// When to try again.
    pub(super) retry_at: Moment,
    random: Random,
}

impl Trouble {
    pub(super) fn new(seed: u64) -> Trouble {
        Trouble { failures: 0, retry_at: Moment::ZERO, random: Random::new(seed) }
    }

    /// It failed once more; when to try again.
    pub(super) fn failed(&mut self, now: Moment) -> Moment {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = now + self.wait(self.failures);
        self.retry_at
    }

    /// It went well: nothing is left of earlier failures.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub(super) fn is_degraded(&self) -> bool {
        self.failures >= DEGRADED_AFTER
    }

    /// The wait after the `n`th failure, shortened by up to a quarter so that pools which fail for the same reason do
    /// not try in step.
    pub(super) fn wait(&mut self, n: u32) -> Duration {
        let doubled = 1_u32.checked_shl(n.saturating_sub(1)).unwrap_or(u32::MAX);
        let wait = FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT);
        wait - wait / 1024 * self.random.below(256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_shortened_by_less_than_a_quarter() {
        let mut trouble = Trouble::new(7);
        for (n, full) in [(1, 5), (2, 10), (3, 20), (10, 2_560), (13, 20_480), (14, 30_000), (500, 30_000)] {
            let full = Duration::from_millis(full);
            let wait = trouble.wait(n);
            assert!(wait <= full && wait > full * 3 / 4, "{n}: {wait:?} of {full:?}");
        }
    }

    #[test]
    fn one_success_ends_a_row_of_failures() {
        let mut trouble = Trouble::new(7);
        for _ in 0..DEGRADED_AFTER {
            trouble.failed(Moment::ZERO);
        }
        assert!(trouble.is_degraded());
        trouble.succeeded();
        assert!(!trouble.is_degraded());
        assert!(trouble.failed(Moment::ZERO) <= FIRST_WAIT);
    }
}
