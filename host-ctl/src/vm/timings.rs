//! Where a boot's time went.
//!
//! Events carry the guest's clock, and the host knows when it heard each. No event is heard before it happens, so the
//! smallest difference between the two clocks places the guest's on the host's: an event that was heard late, or read
//! again from a log after a monitor's death, still gets the instant at which it happened.

use std::collections::BTreeMap;

use firstlight_protocol::sentinel::Event;
use serde::Serialize;

use super::fold::{Boot, Heard};
use crate::clock::ms;

/// When a boot got where, in ms from its origin: the VM's creation for the first boot, the start for later ones.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Timings {
    /// The VMM's process was started.
    pub vmm_started: Option<f64>,
    /// The guest's clock was zero: its kernel began.
    pub kernel_start: Option<f64>,
    /// Init ran and had read its boot spec.
    pub init_start: Option<f64>,
    /// The agent listened, for the first time.
    pub agent_ready: Option<f64>,
    /// The program was exec'd.
    pub program_start: Option<f64>,
    /// The VM was Running: the later of the two, or the program's start alone where the agent is waived.
    pub running: Option<f64>,
    /// The image's own init had finished starting (systemd mode).
    pub system_ready: Option<f64>,
    /// The program ended.
    pub exit: Option<f64>,
    /// File systems were unmounted.
    pub power_off: Option<f64>,
    /// The VMM was gone.
    pub vmm_exited: Option<f64>,
    /// The headers worker began.
    pub headers_start: Option<f64>,
    /// The headers worker ended, one way or another.
    pub headers_done: Option<f64>,
    /// Each stage of the boot, in the order in which they ended.
    pub stages: Vec<StageTiming>,
}

/// One stage of the boot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageTiming {
    /// Its name.
    pub stage: String,
    /// When it began, in ms from the boot's origin.
    pub start: f64,
    /// When it ended.
    pub done: f64,
    /// How long it ran, in ms.
    pub dur: f64,
    /// The thread of init it ran on.
    pub thread: Option<u32>,
    /// The stages it waited for, without those that one of them waited for in turn.
    pub needs: Vec<String>,
    /// Why an optional stage did nothing.
    pub skipped: Option<String>,
}

/// Places the guest's clock on the host's.
#[derive(Debug, Clone, Copy)]
pub struct BootClock {
    origin_ns: u64,
    /// The host's clock when the guest's was zero.
    guest_zero_ns: u64,
}

impl BootClock {
    /// The clock of `boot`, from all it has heard so far.
    #[must_use]
    pub fn of(boot: &Boot) -> BootClock {
        let zeroes = boot.events.values().map(|heard| heard.at.boot_ns.saturating_sub(heard.sentinel.t));
        let guest_zero_ns = zeroes.min().unwrap_or(boot.started.boot_ns);
        BootClock { origin_ns: boot.origin.boot_ns, guest_zero_ns }
    }

    /// An instant of the guest's clock in ms from the boot's origin.
    #[must_use]
    pub fn at_ms(&self, t: u64) -> f64 {
        ms(self.guest_zero_ns.saturating_add(t).saturating_sub(self.origin_ns))
    }
}

impl Timings {
    /// The timings of `boot`.
    #[must_use]
    pub fn of(boot: &Boot, skip_guest_agent: bool) -> Timings {
        let clock = BootClock::of(boot);
        let mut timings = Timings {
            vmm_started: boot.vmm_started.map(|at| at.ms_since(&boot.origin)),
            vmm_exited: boot.vmm_exit.as_ref().map(|(at, _)| at.ms_since(&boot.origin)),
            ..Timings::default()
        };
        // A copy's clock began with the boot it is a copy of.
        timings.kernel_start = (!boot.events.is_empty() && boot.copy_of.is_none()).then(|| clock.at_ms(0));
        let names = stage_names(boot);
        for heard in boot.events.values() {
            timings.add(heard, &clock, &names);
        }
        timings.stages.sort_by(|a, b| a.done.total_cmp(&b.done));
        timings.running = match (timings.program_start, timings.agent_ready) {
            (Some(program), Some(agent)) if !skip_guest_agent => Some(program.max(agent)),
            (program, Some(_) | None) => program.filter(|_| skip_guest_agent),
        };
        timings
    }

    fn add(&mut self, heard: &Heard, clock: &BootClock, names: &BTreeMap<u32, &str>) {
        let at = clock.at_ms(heard.sentinel.t);
        let first = |slot: &mut Option<f64>| {
            slot.get_or_insert(at);
        };
        match &heard.sentinel.event {
            Event::InitStart => first(&mut self.init_start),
            Event::AgentReady => first(&mut self.agent_ready),
            Event::ProgramStart { .. } => first(&mut self.program_start),
            Event::SystemReady { .. } => first(&mut self.system_ready),
            Event::Exit { .. } => first(&mut self.exit),
            Event::PowerOff => first(&mut self.power_off),
            Event::StageDone { stage, dur, thread, needs, skipped, index: _ } => {
                self.stages.push(StageTiming {
                    stage: stage.clone(),
                    start: clock.at_ms(heard.sentinel.t.saturating_sub(*dur)),
                    done: at,
                    dur: ms(*dur),
                    thread: *thread,
                    needs: needs
                        .iter()
                        .filter_map(|need| names.get(need))
                        .map(|name| (*name).to_owned())
                        .collect(),
                    skipped: skipped.clone(),
                });
            }
            Event::HeadersStart => first(&mut self.headers_start),
            Event::HeadersReady | Event::HeadersSkipped { .. } | Event::HeadersFailed { .. } => {
                first(&mut self.headers_done);
            }
            Event::Restored { .. } | Event::AgentExit { .. } | Event::Fatal { .. } => {}
        }
    }
}

/// The stages that have been done, by their numbers in the plan.
fn stage_names(boot: &Boot) -> BTreeMap<u32, &str> {
    let mut names = BTreeMap::new();
    for heard in boot.events.values() {
        if let Event::StageDone { stage, index: Some(index), .. } = &heard.sentinel.event {
            names.insert(*index, stage.as_str());
        }
    }
    names
}
