//! What the host calls a VM, derived by one pure function.
//!
//! The state is a function of three things: what is known of the VMM process, which events of *this* boot were heard,
//! and whether the boot waived the agent. Nothing stores a state; whoever has the facts derives the same one.
//! `docs/lifecycle.md` has the diagram and the operations-by-state table.

use serde::{Deserialize, Serialize};

use crate::sentinel::{Event, ExitStatus};

/// The lifecycle state of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// Recorded, never started.
    Created,
    /// The VMM runs; the boot has not reached Running.
    Initializing,
    /// The program runs, and the agent listens unless it was waived.
    Running,
    /// The VMM holds the guest still.
    Paused,
    /// The program ended or a stop was asked for; the VMM still runs.
    Stopping,
    /// Ended as asked, or because its program ended.
    Stopped,
    /// Ended, or cannot go on, for a reason nobody asked for.
    Failed {
        /// The stage of the boot, or `vmm`, `program` or `teardown`.
        stage: String,
        /// Why, in words.
        reason: String,
    },
    /// Nothing can be said: the VMM's process cannot be looked at. Never a word for "stopped".
    Unknown,
}

impl State {
    /// The state's name as people type it: `initializing`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            State::Created => "created",
            State::Initializing => "initializing",
            State::Running => "running",
            State::Paused => "paused",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
            State::Failed { .. } => "failed",
            State::Unknown => "unknown",
        }
    }

    /// Whether the VM can never again reach any other state than by being started anew.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            State::Stopped | State::Failed { .. } => true,
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused
            | State::Stopping
            | State::Unknown => false,
        }
    }
}

/// What is known of the VMM's process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmmStatus {
    /// It was never started.
    NotStarted,
    /// It could not be started.
    StartFailed {
        /// Why, in words.
        reason: String,
    },
    /// It runs.
    Active,
    /// It runs and holds the guest still.
    Paused,
    /// It is gone.
    Gone,
    /// It cannot be looked at.
    Unknown,
}

impl VmmStatus {
    /// Whether the VM holds resources of the host: its process, disks, sockets and tap devices stay.
    ///
    /// `Unknown` counts, because releasing what may be in use is the one mistake that cannot be mended.
    #[must_use]
    pub fn is_active(&self) -> bool {
        match self {
            VmmStatus::Active | VmmStatus::Paused | VmmStatus::Unknown => true,
            VmmStatus::NotStarted | VmmStatus::StartFailed { .. } | VmmStatus::Gone => false,
        }
    }
}

/// Why a boot failed, from its FATAL event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The stage it happened in.
    pub stage: String,
    /// Why, in words, with the path and the errno where there are any.
    pub reason: String,
}

/// What this boot's events, and the requests made of it, add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootFacts {
    /// AGENT-READY was heard.
    pub agent_ready: bool,
    /// PROGRAM-START was heard.
    pub program_started: bool,
    /// EXIT was heard.
    pub exit: Option<ExitStatus>,
    /// FATAL was heard; the first one counts.
    pub failure: Option<Failure>,
    /// POWER-OFF was heard: file systems are unmounted.
    pub power_off: bool,
    /// A stop was asked for.
    pub stop_requested: bool,
    /// The VMM was ended by force at somebody's request.
    pub killed: bool,
    /// The last stage that was done, for the reason of a boot that just ends.
    pub last_stage: Option<String>,
}

impl BootFacts {
    /// Adds an authentic event of this boot. Hearing one twice, or events out of order, changes nothing.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::AgentReady => self.agent_ready = true,
            Event::ProgramStart { .. } => self.program_started = true,
            Event::Exit { status, .. } => self.exit = Some(*status),
            Event::Fatal { stage, errno, path, error } => {
                self.failure.get_or_insert_with(|| {
                    let path = path.as_ref().map(|path| format!("{path}: ")).unwrap_or_default();
                    let errno = errno.map(|errno| format!(" (errno {errno})")).unwrap_or_default();
                    Failure { stage: stage.clone(), reason: format!("{path}{error}{errno}") }
                });
            }
            Event::PowerOff => self.power_off = true,
            Event::StageDone { stage, .. } => self.last_stage = Some(stage.clone()),
            // The agent's restarts leave the state alone: the program never notices them.
            Event::InitStart
            | Event::Restored { .. }
            | Event::AgentExit { .. }
            | Event::SystemReady { .. }
            | Event::HeadersStart
            | Event::HeadersReady
            | Event::HeadersSkipped { .. }
            | Event::HeadersFailed { .. } => {}
        }
    }
}

/// The state of a VM. `skip_guest_agent` waives AGENT-READY and nothing else.
#[must_use]
pub fn derive(vmm: &VmmStatus, facts: &BootFacts, skip_guest_agent: bool) -> State {
    match vmm {
        VmmStatus::NotStarted => State::Created,
        VmmStatus::StartFailed { reason } => State::Failed { stage: "vmm".into(), reason: reason.clone() },
        VmmStatus::Unknown => State::Unknown,
        VmmStatus::Active | VmmStatus::Paused | VmmStatus::Gone => match &facts.failure {
            Some(Failure { stage, reason }) => State::Failed { stage: stage.clone(), reason: reason.clone() },
            None if *vmm == VmmStatus::Gone => ended(facts),
            None if *vmm == VmmStatus::Paused => State::Paused,
            None => alive(facts, skip_guest_agent),
        },
    }
}

fn alive(facts: &BootFacts, skip_guest_agent: bool) -> State {
    if facts.exit.is_some() || facts.power_off || facts.stop_requested || facts.killed {
        State::Stopping
    } else if facts.program_started && (facts.agent_ready || skip_guest_agent) {
        State::Running
    } else {
        State::Initializing
    }
}

/// The VMM is gone: was that the end somebody asked for, or the program's own?
fn ended(facts: &BootFacts) -> State {
    if facts.power_off || facts.stop_requested || facts.killed {
        return State::Stopped;
    }
    let (stage, reason) = if facts.exit.is_some() {
        ("teardown", "the VMM ended before the guest had unmounted its file systems".to_owned())
    } else if facts.program_started {
        ("program", "the VMM ended while the program was running".to_owned())
    } else {
        let after =
            facts.last_stage.as_ref().map(|stage| format!(" after stage {stage}")).unwrap_or_default();
        ("boot", format!("the VMM ended during the boot{after}"))
    };
    State::Failed { stage: stage.into(), reason }
}

#[cfg(test)]
mod tests;
