//! Whether what runs in the guest does its work: checks that the agent runs again and again.
//!
//! Health says nothing of the lifecycle, and the lifecycle nothing of health: an unhealthy program is still Running. The
//! agent evaluates, so a check needs no connection, sees what the program's neighbours would see, and goes on when the
//! host is away.

use serde::Serialize;

/// Most checks at one time.
pub const MAX_CHECKS: usize = 16;

/// Most bytes of a check's name.
pub const MAX_NAME: usize = 64;

/// The shortest interval and timeout, in ms: a check is to observe the guest and not to load it.
pub const MIN_INTERVAL_MS: u32 = 100;

/// Most bytes of what a finding says.
pub const MAX_DETAIL: usize = 256;

/// One check and its thresholds.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Check {
    /// Its name, each once.
    pub name: String,
    /// What it does.
    pub probe: Probe,
    /// Milliseconds between the end of one run and the beginning of the next.
    pub interval_ms: u32,
    /// Milliseconds after which a run has failed.
    pub timeout_ms: u32,
    /// Failures in a row that make it unhealthy, at least 1.
    pub failures: u16,
    /// Successes in a row that make it healthy, at least 1.
    pub successes: u16,
    /// Milliseconds from now on in which failures do not count, for a program that starts slowly. The first success ends
    /// them.
    pub grace_ms: u32,
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Probe {
    /// Runs a command, which has to exit with 0.
    Exec(Vec<Vec<u8>>),
    /// Connects to a port of the guest's loopback.
    Tcp(u16),
    /// Asks an HTTP server on the guest's loopback, whose answer has to be 2xx or 3xx.
    Http {
        /// Its port.
        port: u16,
        /// What to GET, from the slash on.
        path: String,
    },
}

/// Where a check stands, and all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// There are no checks, so nobody knows.
    Unchecked,
    /// Not decided yet.
    Starting,
    /// The threshold of successes was reached last.
    Healthy,
    /// The threshold of failures was reached last.
    Unhealthy,
}

impl State {
    /// The state as it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Unchecked => "unchecked",
            State::Starting => "starting",
            State::Healthy => "healthy",
            State::Unhealthy => "unhealthy",
        }
    }

    /// All of them together: as bad as the worst.
    #[must_use]
    pub fn of_all(states: impl IntoIterator<Item = State>) -> State {
        let rank = |state: &State| match state {
            State::Unchecked => 0,
            State::Healthy => 1,
            State::Starting => 2,
            State::Unhealthy => 3,
        };
        states.into_iter().max_by_key(rank).unwrap_or(State::Unchecked)
    }
}

/// The guest's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Health {
    /// All checks together.
    pub state: State,
    /// Each of them.
    pub checks: Vec<CheckHealth>,
}

/// One check's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct CheckHealth {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: State,
    /// How often it ran.
    pub runs: u64,
    /// How often in a row it failed last.
    pub failures: u32,
    /// What it found last.
    pub last: Option<Finding>,
}

/// What one run found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Finding {
    /// Whether it succeeded.
    pub ok: bool,
    /// When it ended, in nanoseconds since the guest's kernel started (`CLOCK_BOOTTIME`).
    pub at_ns: u64,
    /// Microseconds it took.
    pub elapsed_us: u64,
    /// In words: the status, or why there is none. The end of a command's output, at most [`MAX_DETAIL`] bytes in all.
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_are_as_bad_as_the_worst() {
        use State::{Healthy, Starting, Unchecked, Unhealthy};
        assert_eq!(State::of_all([]), Unchecked);
        assert_eq!(State::of_all([Healthy, Healthy]), Healthy);
        assert_eq!(State::of_all([Starting, Healthy]), Starting);
        assert_eq!(State::of_all([Healthy, Unhealthy, Starting]), Unhealthy);
    }
}
