//! Where one check stands: pure, it is told what each run found.

use firstlight_protocol::message::health::{Check, CheckHealth, Finding, State};

/// One check's standing.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    name: String,
    state: State,
    runs: u64,
    /// In a row, up to the last run.
    failures: u32,
    /// In a row, up to the last run.
    successes: u32,
    succeeded_once: bool,
    last: Option<Finding>,
}

impl Standing {
    pub(super) fn new(name: &str) -> Standing {
        Standing {
            name: name.to_owned(),
            state: State::Starting,
            runs: 0,
            failures: 0,
            successes: 0,
            succeeded_once: false,
            last: None,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn describe(&self) -> CheckHealth {
        CheckHealth {
            name: self.name.clone(),
            state: self.state,
            runs: self.runs,
            failures: self.failures,
            last: self.last.clone(),
        }
    }

    /// Takes notice of one run. In its grace a program that has never been healthy may fail for free.
    pub(super) fn observe(&mut self, finding: Finding, in_grace: bool, check: &Check) {
        self.runs += 1;
        if finding.ok {
            self.failures = 0;
            self.successes = self.successes.saturating_add(1);
            self.succeeded_once = true;
        } else {
            self.successes = 0;
            if !in_grace || self.succeeded_once {
                self.failures = self.failures.saturating_add(1);
            }
        }
        if self.successes >= check.successes.into() {
            self.state = State::Healthy;
        } else if self.failures >= check.failures.into() {
            self.state = State::Unhealthy;
        }
        self.last = Some(finding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_protocol::message::health::Probe;

    /// The states after each run: `+` and `-` are runs, `_` a failure in the grace.
    fn states(runs: &str, failures: u16, successes: u16) -> String {
        let check = Check {
            name: "x".into(),
            probe: Probe::Tcp(1),
            interval_ms: 1000,
            timeout_ms: 1000,
            failures,
            successes,
            grace_ms: 0,
        };
        let mut standing = Standing::new("x");
        let after = |run: char| {
            let finding = Finding { ok: run == '+', at_ns: 0, elapsed_us: 0, detail: String::new() };
            standing.observe(finding, run == '_', &check);
            match standing.state() {
                State::Starting => 's',
                State::Healthy => 'h',
                State::Unhealthy => 'u',
                State::Unchecked => '?',
            }
        };
        runs.chars().map(after).collect()
    }

    #[test]
    fn thresholds_count_what_comes_in_a_row() {
        assert_eq!(states("+--+---+", 3, 1), "hhhhhhuh");
        assert_eq!(states("--+-++-", 2, 2), "suuuuhh");
    }

    #[test]
    fn nothing_is_decided_before_a_threshold_is_reached() {
        assert_eq!(states("-+-+", 2, 2), "ssss");
    }

    #[test]
    fn failures_in_the_grace_are_free_until_the_first_success() {
        assert_eq!(states("_____--", 2, 1), "ssssssu");
        assert_eq!(states("_+__", 2, 1), "shhu");
    }
}
