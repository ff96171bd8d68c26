//! What may be done to a VM in which state.
//!
//! One pure function, exhaustive in both: a new operation or a new state breaks the build here and nowhere else.
//! `docs/lifecycle.md` shows it as a table, which a test compares with [`allowed`].

use firstlight_protocol::lifecycle::State;

/// What people ask of a VM. Repeating one that has been done is no error, so stopping a stopped VM is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Look at it: inspect, ps, logs, events, wait, metrics.
    Observe,
    /// Boot it once more; one that runs is left alone.
    Start,
    /// End it in order.
    Stop,
    /// End it by force.
    Kill,
    /// Send a signal to its program.
    Signal,
    /// Hold the guest still.
    Pause,
    /// Let it go on.
    Resume,
    /// Save it, memory and disks, while it runs.
    Snapshot,
    /// Do something in the guest through its agent: exec, batch, probe, stats, health.
    Exec,
    /// Forget an ended VM.
    Remove,
    /// End it by force, then forget it.
    ForceRemove,
}

impl Operation {
    /// Every operation, in the order of the table.
    pub const ALL: &[Operation] = &[
        Operation::Observe,
        Operation::Start,
        Operation::Stop,
        Operation::Kill,
        Operation::Signal,
        Operation::Pause,
        Operation::Resume,
        Operation::Exec,
        Operation::Snapshot,
        Operation::Remove,
        Operation::ForceRemove,
    ];

    /// The operation as it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Operation::Observe => "inspect",
            Operation::Start => "start",
            Operation::Stop => "stop",
            Operation::Kill => "kill",
            Operation::Signal => "kill -s",
            Operation::Pause => "pause",
            Operation::Resume => "resume",
            Operation::Exec => "exec",
            Operation::Snapshot => "snapshot",
            Operation::Remove => "rm",
            Operation::ForceRemove => "rm -f",
        }
    }

    /// Whether the guest's agent does it.
    #[must_use]
    pub fn needs_agent(self) -> bool {
        match self {
            Operation::Exec | Operation::Snapshot => true,
            Operation::Observe
            | Operation::Start
            | Operation::Stop
            | Operation::Kill
            | Operation::Signal
            | Operation::Pause
            | Operation::Resume
            | Operation::Remove
            | Operation::ForceRemove => false,
        }
    }
}

/// Why an operation is refused, by what would mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It needs a VM that runs; this one has not got there yet.
    NotYet,
    /// It needs a VM that runs; this one ends or has ended.
    Ended,
    /// It needs a VM that has ended; this one is about to.
    Ending,
    /// It needs a guest that moves.
    Paused,
    /// The VM holds resources of the host.
    Active,
    /// Nobody can say whether the VM holds resources of the host.
    Unknown,
    /// The VM was booted without an agent.
    NoAgent,
}

impl Refusal {
    /// One sentence for the user, which names the VM and its state.
    #[must_use]
    pub fn message(self, operation: Operation, vm: &str, state: &State) -> String {
        self.message_for(operation.name(), vm, state)
    }

    /// The same of a command `name`, which is one of several that an [`Operation`] stands for.
    #[must_use]
    pub fn message_for(self, name: &str, vm: &str, state: &State) -> String {
        let state = state.name();
        match self {
            Refusal::NotYet | Refusal::Ended | Refusal::Paused => {
                format!("{name} needs a running VM, and {vm} is {state}")
            }
            Refusal::Ending => format!("{name} needs a VM that has ended, and {vm} is still {state}"),
            Refusal::Active => format!("{vm} is {state} and is not removed"),
            Refusal::Unknown => format!("the state of {vm} is unknown: its VMM cannot be looked at"),
            Refusal::NoAgent => format!("{name} needs the guest agent, and {vm} was booted without one"),
        }
    }

    /// What to do next.
    #[must_use]
    pub fn hint(self, vm: &str) -> String {
        match self {
            Refusal::NotYet => format!("wait for it: host-ctl wait {vm} --for running"),
            Refusal::Ended => format!("see how it ended: host-ctl inspect {vm}"),
            Refusal::Ending => format!("wait for it: host-ctl wait {vm} --for stopped"),
            Refusal::Paused => format!("let it go on: host-ctl resume {vm}"),
            Refusal::Active => format!("stop it first (host-ctl stop {vm}), or use rm -f"),
            Refusal::Unknown => "run host-ctl as the user who started the VM, on the same host".into(),
            Refusal::NoAgent => "run the VM without --skip-guest-agent".into(),
        }
    }
}

/// Whether `operation` may be done to a VM in `state`.
///
/// # Errors
/// [`Refusal`] with the reason.
pub fn allowed(operation: Operation, state: &State) -> Result<(), Refusal> {
    match operation {
        Operation::Observe => Ok(()),
        // Ending what has ended is no error, and what cannot be looked at may still be asked to end.
        Operation::Stop | Operation::Kill => Ok(()),
        Operation::Signal => match state {
            State::Running | State::Paused | State::Stopping => Ok(()),
            State::Created | State::Initializing => Err(Refusal::NotYet),
            State::Stopped | State::Failed { .. } => Err(Refusal::Ended),
            State::Unknown => Err(Refusal::Unknown),
        },
        Operation::Pause | Operation::Resume => match state {
            State::Running | State::Paused => Ok(()),
            State::Created | State::Initializing => Err(Refusal::NotYet),
            State::Stopping | State::Stopped | State::Failed { .. } => Err(Refusal::Ended),
            State::Unknown => Err(Refusal::Unknown),
        },
        Operation::Exec | Operation::Snapshot => match state {
            State::Running => Ok(()),
            State::Created | State::Initializing => Err(Refusal::NotYet),
            State::Paused => Err(Refusal::Paused),
            State::Stopping | State::Stopped | State::Failed { .. } => Err(Refusal::Ended),
            State::Unknown => Err(Refusal::Unknown),
        },
        Operation::Remove => match state {
            State::Created | State::Stopped | State::Failed { .. } => Ok(()),
            State::Initializing | State::Running | State::Paused | State::Stopping => Err(Refusal::Active),
            State::Unknown => Err(Refusal::Unknown),
        },
        Operation::Start => match state {
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused
            | State::Stopped
            | State::Failed { .. } => Ok(()),
            State::Stopping => Err(Refusal::Ending),
            // A second VMM on the same disks is a mistake that cannot be mended.
            State::Unknown => Err(Refusal::Unknown),
        },
        Operation::ForceRemove => match state {
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused
            | State::Stopping
            | State::Stopped
            | State::Failed { .. } => Ok(()),
            // So is releasing what may be in use.
            State::Unknown => Err(Refusal::Unknown),
        },
    }
}

/// [`allowed`], for a VM that may have been booted without an agent. That reason comes first: waiting would not help.
///
/// # Errors
/// [`Refusal`] with the reason.
pub fn check(operation: Operation, state: &State, skip_guest_agent: bool) -> Result<(), Refusal> {
    if skip_guest_agent && operation.needs_agent() {
        return Err(Refusal::NoAgent);
    }
    allowed(operation, state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states() -> [State; 8] {
        let failed = State::Failed { stage: "root".into(), reason: "no such disk".into() };
        [
            State::Created,
            State::Initializing,
            State::Running,
            State::Paused,
            State::Stopping,
            State::Stopped,
            failed,
            State::Unknown,
        ]
    }

    /// The table of `docs/lifecycle.md`.
    fn table() -> String {
        let names: Vec<&str> = states().iter().map(State::name).collect();
        let mut table = format!("| | {} |\n|{}\n", names.join(" | "), " --- |".repeat(names.len() + 1));
        for operation in Operation::ALL {
            let cells = states().map(|state| match allowed(*operation, &state) {
                Ok(()) => "yes",
                Err(Refusal::NotYet) => "not yet",
                Err(Refusal::Ended) => "ended",
                Err(Refusal::Ending) => "not yet ended",
                Err(Refusal::Paused) => "resume first",
                Err(Refusal::Active) => "stop first",
                Err(Refusal::Unknown) => "unknown",
                Err(Refusal::NoAgent) => "no agent",
            });
            table.push_str(&format!("| `{}` | {} |\n", operation.name(), cells.join(" | ")));
        }
        table
    }

    #[test]
    fn the_documentation_has_this_very_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/lifecycle.md");
        let document = std::fs::read_to_string(path).unwrap();
        assert!(document.contains(&table()), "docs/lifecycle.md should have:\n{}", table());
    }

    #[test]
    fn what_only_looks_or_ends_works_while_a_vm_initializes() {
        for operation in [Operation::Observe, Operation::Stop, Operation::Kill, Operation::ForceRemove] {
            assert_eq!(allowed(operation, &State::Initializing), Ok(()), "{operation:?}");
        }
    }

    #[test]
    fn what_needs_a_running_guest_is_refused_before_with_the_command_that_waits() {
        let refusal = allowed(Operation::Exec, &State::Initializing).unwrap_err();
        let message = refusal.message(Operation::Exec, "web", &State::Initializing);
        assert_eq!(message, "exec needs a running VM, and web is initializing");
        assert_eq!(refusal.hint("web"), "wait for it: host-ctl wait web --for running");
    }

    #[test]
    fn a_vm_without_an_agent_refuses_agent_operations_in_every_state_for_that_reason() {
        for state in states() {
            assert_eq!(check(Operation::Exec, &state, true), Err(Refusal::NoAgent));
            assert_eq!(check(Operation::Stop, &state, true), Ok(()));
        }
    }

    #[test]
    fn a_vm_that_may_hold_resources_is_never_removed() {
        for state in states().iter().filter(|state| !state.is_final() && **state != State::Created) {
            assert!(allowed(Operation::Remove, state).is_err(), "{state:?}");
        }
        assert_eq!(allowed(Operation::ForceRemove, &State::Unknown), Err(Refusal::Unknown));
    }
}
