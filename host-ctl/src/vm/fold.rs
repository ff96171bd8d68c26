//! A journal added up: what was recorded of the VM, and of its latest boot.

use std::collections::BTreeMap;

use firstlight_protocol::hex::BootId;
use firstlight_protocol::lifecycle::{BootFacts, Failure, State, VmmStatus, derive};
use firstlight_protocol::sentinel::Sentinel;

use super::process::ProcessId;
use super::record::{Entry, Record, Source};
use super::view::Liveness;
use crate::agent::transport::Address;
use crate::clock::Stamp;
use crate::snapshot::Memory;
use crate::snapshot::saved::TimedStep;

/// Records, added up one by one.
#[derive(Debug, Clone, Default)]
pub struct Fold {
    created: Option<Stamp>,
    last: Option<Stamp>,
    boots: u32,
    boot: Option<Boot>,
}

/// One boot, as far as it is recorded.
#[derive(Debug, Clone)]
pub struct Boot {
    /// The boot.
    pub id: BootId,
    /// The host's boot it ran in.
    pub host_boot: String,
    /// When it was asked for: the VM's creation for its first boot.
    pub origin: Stamp,
    /// When its first record was written.
    pub started: Stamp,
    /// The VMM's process.
    pub vmm: Option<ProcessId>,
    /// When that was started.
    pub vmm_started: Option<Stamp>,
    /// The vsock backend's process.
    pub backend: Option<ProcessId>,
    /// Where the guest's ports are reached.
    pub vsock: Option<Address>,
    /// Why the VMM could not be started.
    pub start_failed: Option<String>,
    /// Whether the VMM holds the guest still.
    pub paused: bool,
    /// The boot it is a copy of, restored from a snapshot.
    pub copy_of: Option<BootId>,
    /// How the copy got its memory.
    pub memory: Memory,
    /// What the copy did to become itself.
    pub restored: Option<Vec<TimedStep>>,
    /// Whether the guest is being saved.
    pub saving: bool,
    /// What its events and the requests made of it add up to.
    pub facts: BootFacts,
    /// Its events by sequence number: whatever road each came on, it is one.
    pub events: BTreeMap<u64, Heard>,
    /// How the VMM ended.
    pub vmm_exit: Option<(Stamp, String)>,
    /// What the monitor had to force, and why.
    pub forced: Vec<String>,
    /// How often the serial log was rotated during it.
    pub serial_rotations: u32,
}

/// An event, and how it was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// What the guest said.
    pub sentinel: Sentinel,
    /// When.
    pub at: Stamp,
    /// On which road.
    pub source: Source,
}

impl Fold {
    /// Adds up `records`.
    #[must_use]
    pub fn of(records: &[Record]) -> Fold {
        let mut fold = Fold::default();
        records.iter().for_each(|record| fold.apply(record));
        fold
    }

    /// When the VM was made.
    #[must_use]
    pub fn created(&self) -> Option<Stamp> {
        self.created
    }

    /// When the last record was written.
    #[must_use]
    pub fn last(&self) -> Option<Stamp> {
        self.last
    }

    /// How often the VM was started.
    #[must_use]
    pub fn boots(&self) -> u32 {
        self.boots
    }

    /// The latest boot.
    #[must_use]
    pub fn boot(&self) -> Option<&Boot> {
        self.boot.as_ref()
    }

    /// Adds the next record. One that belongs to no boot, or to another than the latest, changes nothing.
    pub fn apply(&mut self, record: &Record) {
        self.last = Some(record.at);
        match &record.entry {
            Entry::Created => self.created = Some(record.at),
            Entry::BootStarted { boot_id, host_boot } => {
                // A monitor says its boot again to those who had read the journal before.
                self.boots += u32::from(self.boot.as_ref().is_none_or(|boot| boot.id != *boot_id));
                // Later boots were asked for long after the VM was made.
                let origin = self.created.filter(|_| self.boots == 1).unwrap_or(record.at);
                self.boot = Some(Boot::new(*boot_id, host_boot.clone(), origin, record.at));
            }
            Entry::CopyOf { .. }
            | Entry::Restored { .. }
            | Entry::RestoreFailed { .. }
            | Entry::SaveStarted
            | Entry::SaveEnded { .. }
            | Entry::BackendStarted { .. }
            | Entry::VmmStarted { .. }
            | Entry::StartFailed { .. }
            | Entry::Event { .. }
            | Entry::Paused { .. }
            | Entry::StopRequested { .. }
            | Entry::Killed
            | Entry::Forced { .. }
            | Entry::VmmExited { .. }
            | Entry::LogRotated { .. } => {
                if let Some(boot) = &mut self.boot {
                    boot.apply(record);
                }
            }
        }
    }

    /// The VMM's status, from the records and what the host's processes say.
    #[must_use]
    pub fn vmm_status(&self, liveness: Liveness) -> VmmStatus {
        let Some(boot) = &self.boot else { return VmmStatus::NotStarted };
        if let Some(reason) = &boot.start_failed {
            return VmmStatus::StartFailed { reason: reason.clone() };
        }
        if boot.vmm_exit.is_some() {
            return VmmStatus::Gone;
        }
        match liveness {
            Liveness::Alive if boot.paused || boot.saving => VmmStatus::Paused,
            Liveness::Alive => VmmStatus::Active,
            Liveness::Gone => VmmStatus::Gone,
            Liveness::Unknown => VmmStatus::Unknown,
        }
    }

    /// The VM's state.
    #[must_use]
    pub fn state(&self, liveness: Liveness, skip_guest_agent: bool) -> State {
        let nothing = BootFacts::default();
        let facts = self.boot.as_ref().map_or(&nothing, |boot| &boot.facts);
        derive(&self.vmm_status(liveness), facts, skip_guest_agent)
    }
}

impl Boot {
    fn new(id: BootId, host_boot: String, origin: Stamp, started: Stamp) -> Boot {
        Boot {
            id,
            host_boot,
            origin,
            started,
            vmm: None,
            vmm_started: None,
            backend: None,
            vsock: None,
            start_failed: None,
            paused: false,
            copy_of: None,
            memory: Memory::default(),
            restored: None,
            saving: false,
            facts: BootFacts::default(),
            events: BTreeMap::new(),
            vmm_exit: None,
            forced: Vec::new(),
            serial_rotations: 0,
        }
    }

    /// Whether nothing more can come of it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.start_failed.is_some() || self.vmm_exit.is_some()
    }

    /// Whether its guest was not told yet that it is a copy.
    #[must_use]
    pub fn is_untold(&self) -> bool {
        self.copy_of.is_some() && self.restored.is_none()
    }

    /// The lowest sequence number that was not heard.
    #[must_use]
    pub fn first_missing_event(&self) -> u64 {
        let gap = self.events.keys().zip(1..).find(|(seq, expected)| **seq != *expected);
        gap.map_or(self.events.len() as u64 + 1, |(_, expected)| expected)
    }

    fn apply(&mut self, record: &Record) {
        match &record.entry {
            Entry::Created | Entry::BootStarted { .. } => {}
            Entry::CopyOf { boot, memory } => {
                self.copy_of = Some(*boot);
                self.memory = *memory;
            }
            Entry::Restored { steps, answered: _ } => self.restored = Some(steps.clone()),
            Entry::RestoreFailed { reason } => {
                let failure = Failure { stage: "restore".into(), reason: reason.clone() };
                self.facts.failure.get_or_insert(failure);
            }
            Entry::SaveStarted => self.saving = true,
            Entry::SaveEnded { .. } => self.saving = false,
            Entry::BackendStarted { process } => self.backend = Some(*process),
            Entry::VmmStarted { process, vsock } => {
                self.vmm = Some(*process);
                self.vmm_started = Some(record.at);
                self.vsock.clone_from(vsock);
            }
            Entry::StartFailed { reason } => self.start_failed = Some(reason.clone()),
            Entry::Event { sentinel, source } => self.hear(sentinel, record.at, *source),
            Entry::Paused { paused } => self.paused = *paused,
            Entry::StopRequested { .. } => self.facts.stop_requested = true,
            Entry::Killed => self.facts.killed = true,
            Entry::Forced { reason } => self.forced.push(reason.clone()),
            Entry::VmmExited { status } => self.vmm_exit = Some((record.at, status.clone())),
            Entry::LogRotated { log } => {
                self.serial_rotations += u32::from(log == super::vm_dir::name::SERIAL_LOG);
            }
        }
    }

    fn hear(&mut self, sentinel: &Sentinel, at: Stamp, source: Source) {
        if sentinel.boot != self.id || self.events.contains_key(&sentinel.seq) {
            return;
        }
        self.facts.apply(&sentinel.event);
        self.events.insert(sentinel.seq, Heard { sentinel: sentinel.clone(), at, source });
    }
}
