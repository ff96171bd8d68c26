//! What a command shows of a VM: its records and the VMM's liveness, made plain. `inspect --json` is this type.

use std::collections::BTreeMap;

use firstlight_protocol::boot_spec::Mode;
use firstlight_protocol::hex::BootId;
use firstlight_protocol::lifecycle::{Failure, State};
use firstlight_protocol::sentinel::{Event, ExitStatus, Sentinel};
use serde::Serialize;

use super::fold::{Boot, Fold};
use super::headers_view::HeadersView;
use super::id::VmId;
use super::record::Source;
use super::spec::VmSpec;
use super::timings::{BootClock, Timings};
use crate::clock::{Stamp, rfc3339};

/// What the host's processes say of a VMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// Its very process runs.
    Alive,
    /// It does not run.
    Gone,
    /// It cannot be looked at.
    Unknown,
}

/// What is known of a VM at one instant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VmView {
    /// The version of this document; fields are added within one.
    pub version: u32,
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: VmId,
    /// Its lifecycle state, by name.
    #[serde(serialize_with = "state_name")]
    pub state: State,
    /// Where and why it failed.
    pub failure: Option<Failure>,
    /// The latest boot.
    pub boot_id: Option<BootId>,
    /// The VMM's pid while it runs.
    pub pid: Option<u32>,
    /// How the program ended.
    pub exit: Option<ExitStatus>,
    /// Whether the guest's OOM killer ended a process of the program.
    pub oom: bool,
    /// How the VMM ended, in words.
    pub vmm_exit: Option<String>,
    /// What the monitor had to force during the latest boot.
    pub forced: Vec<String>,
    /// Who is PID 1 once the VM runs.
    pub mode: Mode,
    /// What the image's own init said when it had finished starting (systemd mode).
    pub system: Option<SystemView>,
    /// Whether the VM boots without an agent.
    pub skip_guest_agent: bool,
    /// The user's own words about it.
    pub labels: BTreeMap<String, String>,
    /// When it was made, in RFC 3339.
    pub created_at: Option<String>,
    /// When the latest boot began, in RFC 3339.
    pub started_at: Option<String>,
    /// How often it was started.
    pub boots: u32,
    /// How often the agent was started again in the latest boot.
    pub agent_restarts: u32,
    /// How the installation of kernel headers stands, where the VM was given any.
    pub headers: Option<HeadersView>,
    /// When the latest boot got where, in ms from its origin.
    pub timings: Timings,
    /// The latest boot's events, by sequence number.
    pub events: Vec<EventView>,
    /// How old the last record is, in ms: what is shown of a VM without a monitor may be that old.
    pub age_ms: Option<f64>,
}

/// The image's own init when it had finished starting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SystemView {
    /// Its own word: `running` or `degraded`.
    pub state: String,
    /// The units that failed.
    pub failed: Vec<String>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EventView {
    /// What the guest said: `event`, `seq`, `t`, `boot` and the event's own fields.
    #[serde(flatten)]
    pub sentinel: Sentinel,
    /// When it happened, in ms from the boot's origin.
    pub at_ms: f64,
    /// When the host heard it, in RFC 3339.
    pub received_at: String,
    /// The road it came on first.
    pub source: Source,
}

impl VmView {
    /// The view of the VM that `spec` makes and `fold` records.
    #[must_use]
    pub fn new(spec: &VmSpec, fold: &Fold, liveness: Liveness) -> VmView {
        let boot = fold.boot();
        let state = fold.state(liveness, spec.skip_guest_agent);
        let active = fold.vmm_status(liveness).is_active();
        let clock = boot.map(BootClock::of);
        VmView {
            version: 1,
            name: spec.name.clone(),
            id: spec.id,
            failure: failure(&state, boot),
            state,
            boot_id: boot.map(|boot| boot.id),
            pid: boot.filter(|_| active).and_then(|boot| boot.vmm).map(|process| process.pid),
            exit: boot.and_then(|boot| boot.facts.exit),
            oom: boot.is_some_and(was_oom),
            vmm_exit: boot.and_then(|boot| boot.vmm_exit.as_ref()).map(|(_, status)| status.clone()),
            forced: boot.map(|boot| boot.forced.clone()).unwrap_or_default(),
            mode: spec.program.mode,
            system: boot.and_then(system),
            skip_guest_agent: spec.skip_guest_agent,
            labels: spec.labels.clone(),
            created_at: fold.created().map(|at| rfc3339(at.wall_ns)),
            started_at: boot.map(|boot| rfc3339(boot.started.wall_ns)),
            boots: fold.boots(),
            agent_restarts: boot.map_or(0, agent_restarts),
            headers: spec.headers.as_ref().map(|_| HeadersView::of(boot)),
            timings: boot.map(|boot| Timings::of(boot, spec.skip_guest_agent)).unwrap_or_default(),
            events: boot.zip(clock).map(|(boot, clock)| events(boot, &clock)).unwrap_or_default(),
            age_ms: fold.last().map(|last| Stamp::now().ms_since(&last)),
        }
    }

    /// The code a shell would report for the program: its own, or 128 plus the signal.
    #[must_use]
    pub fn exit_code(&self) -> Option<u8> {
        self.exit.map(ExitStatus::shell_code)
    }
}

fn state_name<S: serde::Serializer>(state: &State, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.name())
}

/// The failure a state carries, with the VMM's own last words where it just went.
fn failure(state: &State, boot: Option<&Boot>) -> Option<Failure> {
    let State::Failed { stage, reason } = state else { return None };
    let status = boot.filter(|boot| boot.facts.failure.is_none() && boot.start_failed.is_none());
    let status = status.and_then(|boot| boot.vmm_exit.as_ref()).map(|(_, status)| format!(": {status}"));
    Some(Failure { stage: stage.clone(), reason: format!("{reason}{}", status.unwrap_or_default()) })
}

fn was_oom(boot: &Boot) -> bool {
    boot.events.values().any(|heard| matches!(heard.sentinel.event, Event::Exit { oom: true, .. }))
}

fn system(boot: &Boot) -> Option<SystemView> {
    boot.events.values().find_map(|heard| {
        let Event::SystemReady { state, failed } = &heard.sentinel.event else { return None };
        let failed = failed.split_whitespace().map(str::to_owned).collect();
        Some(SystemView { state: state.clone(), failed })
    })
}

fn agent_restarts(boot: &Boot) -> u32 {
    let restarts = boot.events.values().filter_map(|heard| match &heard.sentinel.event {
        Event::AgentExit { restarts, .. } => Some(*restarts),
        Event::InitStart
        | Event::Restored { .. }
        | Event::StageDone { .. }
        | Event::AgentReady
        | Event::ProgramStart { .. }
        | Event::SystemReady { .. }
        | Event::HeadersStart
        | Event::HeadersReady
        | Event::HeadersSkipped { .. }
        | Event::HeadersFailed { .. }
        | Event::Exit { .. }
        | Event::Fatal { .. }
        | Event::PowerOff => None,
    });
    restarts.max().unwrap_or(0)
}

fn events(boot: &Boot, clock: &BootClock) -> Vec<EventView> {
    let view = |heard: &super::fold::Heard| EventView {
        sentinel: heard.sentinel.clone(),
        at_ms: clock.at_ms(heard.sentinel.t),
        received_at: rfc3339(heard.at.wall_ns),
        source: heard.source,
    };
    boot.events.values().map(view).collect()
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
