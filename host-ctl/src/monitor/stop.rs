//! How a VM is brought to its end: pure, with time as an argument.
//!
//! ```text
//!  asked ──► the guest ends itself ──► quit ──► SIGKILL
//!            (until its deadline)      (until its deadline)
//! ```
//!
//! Each step has a deadline, and the next is its fallback. A guest that says it ends, by EXIT or FATAL, is held to it
//! in the same way; one that has said POWER-OFF is quit at once.

use tokio::time::{Duration, Instant};

/// Beyond the program's grace: how long a guest may take to end its processes, unmount and power off. A busy host under
/// emulation needs a good part of it.
pub(super) const TEARDOWN: Duration = Duration::from_secs(30);

/// How long the VMM may take to quit when told to.
const QUIT: Duration = Duration::from_secs(5);

/// Where it stands.
#[derive(Debug, Default)]
pub(super) struct StopPlan {
    phase: Phase,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Live,
    Asked(Instant),
    Quitting(Instant),
    Killed,
}

/// What to do when a deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Tell the VMM to quit.
    Quit,
    /// Kill the VMM.
    Kill,
}

impl StopPlan {
    /// The guest is to be gone at `until`. Of several such, the earliest counts; `true` when it is this one.
    pub(super) fn expect_end(&mut self, until: Instant) -> bool {
        let earlier = match self.phase {
            Phase::Live => true,
            Phase::Asked(before) => until < before,
            Phase::Quitting(_) | Phase::Killed => false,
        };
        if earlier {
            self.phase = Phase::Asked(until);
        }
        earlier
    }

    /// The VMM was told to quit at `now`.
    pub(super) fn quitting(&mut self, now: Instant) {
        match self.phase {
            Phase::Live | Phase::Asked(_) => self.phase = Phase::Quitting(now + QUIT),
            Phase::Quitting(_) | Phase::Killed => {}
        }
    }

    /// The VMM was killed.
    pub(super) fn killed(&mut self) {
        self.phase = Phase::Killed;
    }

    /// Whether the VMM was told to quit, or killed.
    pub(super) fn is_quitting(&self) -> bool {
        match self.phase {
            Phase::Quitting(_) | Phase::Killed => true,
            Phase::Live | Phase::Asked(_) => false,
        }
    }

    /// When [`StopPlan::expire`] has something to say.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Asked(until) | Phase::Quitting(until) => Some(until),
            Phase::Live | Phase::Killed => None,
        }
    }

    /// The next step, if its time has come.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Step> {
        match self.phase {
            Phase::Asked(until) if now >= until => {
                self.phase = Phase::Quitting(now + QUIT);
                Some(Step::Quit)
            }
            Phase::Quitting(until) if now >= until => {
                self.phase = Phase::Killed;
                Some(Step::Kill)
            }
            Phase::Live | Phase::Asked(_) | Phase::Quitting(_) | Phase::Killed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_guest_that_does_not_end_is_quit_and_then_killed() {
        let start = Instant::now();
        let mut plan = StopPlan::default();
        assert_eq!(plan.expire(start + seconds(1_000)), None);
        assert!(plan.expect_end(start + seconds(10)));
        assert_eq!(plan.expire(start + seconds(9)), None);
        assert_eq!(plan.expire(start + seconds(10)), Some(Step::Quit));
        assert_eq!(plan.expire(start + seconds(11)), None);
        assert_eq!(plan.expire(start + seconds(15)), Some(Step::Kill));
        assert_eq!(plan.deadline(), None);
    }

    #[test]
    fn repeating_a_stop_can_only_shorten_it() {
        let start = Instant::now();
        let mut plan = StopPlan::default();
        assert!(plan.expect_end(start + seconds(10)));
        assert!(!plan.expect_end(start + seconds(60)));
        assert!(plan.expect_end(start + seconds(5)));
        assert_eq!(plan.deadline(), Some(start + seconds(5)));
        plan.quitting(start);
        assert!(!plan.expect_end(start + seconds(1)));
    }

    #[test]
    fn an_orderly_quit_that_hangs_is_a_kill() {
        let start = Instant::now();
        let mut plan = StopPlan::default();
        plan.quitting(start);
        assert_eq!(plan.expire(start + QUIT), Some(Step::Kill));
        plan.killed();
        assert_eq!(plan.expire(start + seconds(1_000)), None);
    }
}
