//! `--for running`, `--for agent-ready`, `--for system-ready`, `--for exit`: what can be waited for, and whether it can still come.

use std::str::FromStr;

use firstlight_host_ctl::vm::VmView;
use firstlight_protocol::boot_spec::Mode;
use firstlight_protocol::headers;
use firstlight_protocol::lifecycle::State;

/// Something that happens to a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It is in the state.
    State(Target),
    /// Its agent listens, or did in this boot.
    AgentReady,
    /// Kernel headers are there: installed, or no need to.
    Headers,
    /// The image's own init has finished starting.
    SystemReady,
    /// Its program ended.
    Exit,
}

/// A state that can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Initializing,
    Running,
    Paused,
    Stopping,
    Stopped,
    Failed,
}

/// How a condition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It holds.
    Met,
    /// It may come.
    Pending,
    /// It cannot come any more in this boot.
    Never,
}

/// Every condition by its name.
const NAMES: [(&str, Condition); 10] = [
    ("initializing", Condition::State(Target::Initializing)),
    ("running", Condition::State(Target::Running)),
    ("paused", Condition::State(Target::Paused)),
    ("stopping", Condition::State(Target::Stopping)),
    ("stopped", Condition::State(Target::Stopped)),
    ("failed", Condition::State(Target::Failed)),
    ("agent-ready", Condition::AgentReady),
    ("headers", Condition::Headers),
    ("system-ready", Condition::SystemReady),
    ("exit", Condition::Exit),
];

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Condition, String> {
        let found = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, condition)| *condition).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("{text:?} cannot be waited for; there are {}", names.join(", "))
        })
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let found = NAMES.iter().find(|(_, condition)| condition == self);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}

impl Condition {
    /// How the condition stands for what is known of a VM.
    pub(crate) fn verdict(self, view: &VmView) -> Verdict {
        match self {
            Condition::State(target) => target.verdict(&view.state),
            Condition::AgentReady if view.timings.agent_ready.is_some() => Verdict::Met,
            // Waiting for an agent that was waived would never end.
            Condition::AgentReady if view.skip_guest_agent => Verdict::Never,
            Condition::SystemReady if view.timings.system_ready.is_some() => Verdict::Met,
            Condition::SystemReady if view.mode == Mode::Exec => Verdict::Never,
            Condition::Exit if view.exit.is_some() => Verdict::Met,
            Condition::Headers => headers_verdict(view),
            Condition::AgentReady | Condition::SystemReady | Condition::Exit if view.state.is_final() => {
                Verdict::Never
            }
            Condition::AgentReady | Condition::SystemReady | Condition::Exit => Verdict::Pending,
        }
    }
}

/// A VM that was given no headers gets none, and one installation a boot is all there is.
fn headers_verdict(view: &VmView) -> Verdict {
    match view.headers.as_ref().map(|headers| headers.state) {
        Some(headers::State::Ready | headers::State::Skipped) => Verdict::Met,
        Some(headers::State::Pending | headers::State::Running) if !view.state.is_final() => Verdict::Pending,
        Some(headers::State::Pending | headers::State::Running | headers::State::Failed) | None => {
            Verdict::Never
        }
    }
}

impl Target {
    fn verdict(self, state: &State) -> Verdict {
        // States a boot passes in this order; those outside the order say nothing of what is past.
        let rank = |state: &State| match state {
            State::Created => Some(0),
            State::Initializing => Some(1),
            State::Running | State::Paused => Some(2),
            State::Stopping => Some(3),
            State::Stopped | State::Failed { .. } => Some(4),
            State::Unknown => None,
        };
        let (wanted, met) = match self {
            Target::Initializing => (1, matches!(state, State::Initializing)),
            Target::Running => (2, matches!(state, State::Running)),
            Target::Paused => (2, matches!(state, State::Paused)),
            Target::Stopping => (3, matches!(state, State::Stopping)),
            Target::Stopped => (4, matches!(state, State::Stopped)),
            Target::Failed => (4, matches!(state, State::Failed { .. })),
        };
        match rank(state) {
            _ if met => Verdict::Met,
            Some(reached) if reached > wanted || reached == 4 => Verdict::Never,
            Some(_) | None => Verdict::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> State {
        State::Failed { stage: "root".into(), reason: "no such disk".into() }
    }

    #[test]
    fn a_state_that_is_past_cannot_come_any_more() {
        for state in [State::Stopping, State::Stopped, failed()] {
            assert_eq!(Target::Running.verdict(&state), Verdict::Never, "{state:?}");
        }
        assert_eq!(Target::Stopped.verdict(&failed()), Verdict::Never);
        assert_eq!(Target::Failed.verdict(&State::Stopped), Verdict::Never);
        assert_eq!(Target::Initializing.verdict(&State::Running), Verdict::Never);
    }

    #[test]
    fn a_state_that_may_come_is_waited_for() {
        for state in [State::Created, State::Initializing, State::Paused, State::Unknown] {
            assert_eq!(Target::Running.verdict(&state), Verdict::Pending, "{state:?}");
        }
        assert_eq!(Target::Paused.verdict(&State::Running), Verdict::Pending);
        assert_eq!(Target::Failed.verdict(&State::Running), Verdict::Pending);
        assert_eq!(Target::Stopped.verdict(&State::Unknown), Verdict::Pending);
    }

    #[test]
    fn each_condition_is_typed_as_it_is_shown() {
        for (name, condition) in NAMES {
            assert_eq!(name.parse(), Ok(condition));
            assert_eq!(condition.to_string(), name);
        }
        assert!("ready".parse::<Condition>().unwrap_err().contains("agent-ready"));
    }
}
