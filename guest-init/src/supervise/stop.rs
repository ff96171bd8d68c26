//! A stop: the program's grace, then its end by force. Pure but for reading the clock.

use crate::wait::Deadline;

/// Whether, and how patiently, the VM is to end.
#[derive(Debug, Default)]
pub(super) struct Stop {
    kill_at: Option<Deadline>,
    killed: bool,
}

/// What a request to stop means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The first one: send the stop signal.
    Begin,
    /// It goes on as it is, or ends sooner.
    GoOn,
}

impl Stop {
    /// Asks for an end within `grace_ms` milliseconds. Of several requests the most impatient holds.
    pub(super) fn request(&mut self, grace_ms: u32) -> Answer {
        let deadline = Deadline::after_ms(grace_ms);
        match self.kill_at {
            None => {
                self.kill_at = Some(deadline);
                Answer::Begin
            }
            Some(earlier) => {
                self.kill_at = Some(earlier.min(deadline));
                Answer::GoOn
            }
        }
    }

    /// Whether a stop was asked for.
    pub(super) fn is_requested(&self) -> bool {
        self.kill_at.is_some()
    }

    /// When [`Stop::take_kill`] has to be asked.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.kill_at.filter(|_| !self.killed)
    }

    /// Whether the grace is over; `true` once.
    pub(super) fn take_kill(&mut self) -> bool {
        let over = self.deadline().is_some_and(Deadline::passed);
        self.killed |= over;
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_requests_the_more_impatient_holds_in_either_order() {
        for graces in [[60_000, 0], [0, 60_000]] {
            let mut stop = Stop::default();
            assert_eq!(graces.map(|grace| stop.request(grace)), [Answer::Begin, Answer::GoOn]);
            assert!(stop.take_kill());
        }
    }

    #[test]
    fn the_kill_comes_once_and_not_before_its_time() {
        let mut patient = Stop::default();
        patient.request(60_000);
        assert!(!patient.take_kill());
        let mut stop = Stop::default();
        assert!(!stop.take_kill(), "nobody asked");
        stop.request(0);
        assert!(stop.take_kill());
        assert!(!stop.take_kill());
        assert_eq!(stop.deadline(), None);
    }
}
