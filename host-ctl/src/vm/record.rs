//! What a journal says, one line each.

use firstlight_protocol::hex::BootId;
use firstlight_protocol::sentinel::Sentinel;
use serde::{Deserialize, Serialize};

use super::process::ProcessId;
use crate::agent::transport::Address;
use crate::clock::Stamp;
use crate::snapshot::Memory;
use crate::snapshot::manifest::Disk;
use crate::snapshot::saved::TimedStep;

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it was written down.
    pub at: Stamp,
    /// What happened.
    #[serde(flatten)]
    pub entry: Entry,
}

impl Record {
    /// A record of this instant.
    #[must_use]
    pub fn now(entry: Entry) -> Record {
        Record { at: Stamp::now(), entry }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub enum Entry {
    /// The VM was made.
    Created,
    /// A boot began. All records after it are this boot's, up to the next one.
    BootStarted {
        /// The boot.
        boot_id: BootId,
        /// The host's own boot: what is said of processes holds in it alone.
        host_boot: String,
    },
    /// The boot goes on as a copy: its memory is that of another, restored from a snapshot.
    CopyOf {
        /// The boot that was saved.
        boot: BootId,
        /// How the copy got its memory.
        #[serde(default)]
        memory: Memory,
    },
    /// The copy was told who it is.
    Restored {
        /// When its agent answered for the first time: a greeting over a port, or else its token over a vsock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answered: Option<Stamp>,
        /// What the guest did, and how long each step took.
        steps: Vec<TimedStep>,
    },
    /// The copy could not be told who it is, and is ended.
    RestoreFailed {
        /// Why, in words.
        reason: String,
    },
    /// The guest is being saved, and stands still for it.
    SaveStarted,
    /// The save is over, and the guest goes on.
    SaveEnded {
        /// Why there is nothing saved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<SaveFailure>,
        /// The disks that were saved.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        disks: Vec<Disk>,
    },
    /// The process that gives the guest its vsock runs.
    BackendStarted {
        /// The process.
        process: ProcessId,
    },
    /// The VMM runs.
    VmmStarted {
        /// The process.
        process: ProcessId,
        /// Where the guest's ports are reached; a unix socket's path is relative to the VM's directory. `None` when
        /// the host cannot give the guest a vsock.
        vsock: Option<Address>,
    },
    /// The VMM could not be started.
    StartFailed {
        /// Why, in words.
        reason: String,
    },
    /// An authentic sentinel of this boot was heard for the first time.
    Event {
        /// What the guest said.
        sentinel: Sentinel,
        /// On which road it came first.
        source: Source,
    },
    /// The guest was paused or resumed by the VMM.
    Paused {
        /// Whether it now stands still.
        paused: bool,
    },
    /// A clean stop was asked for.
    StopRequested {
        /// Milliseconds the program has between its stop signal and SIGKILL; `None` is the spec's.
        grace_ms: Option<u32>,
    },
    /// The VMM is to be ended by force at somebody's request.
    Killed,
    /// A deadline passed and the monitor went on to a harder step.
    Forced {
        /// What it did and why, in words.
        reason: String,
    },
    /// The VMM is gone. It closes the boot.
    VmmExited {
        /// How, in words; a monitor that did not start the VMM cannot know its exit status.
        status: String,
    },
    /// A full log became the first rotated file.
    LogRotated {
        /// The log's file name.
        log: String,
    },
}

/// Why a VM could not be saved. It goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct SaveFailure {
    /// Whose fault it is.
    pub kind: SaveFault,
    /// Why, in words.
    pub reason: String,
}

/// Whose fault it is that a VM could not be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SaveFault {
    /// The disk is full, or a quota or limit of size is reached.
    DiskFull,
    /// The guest did not get ready.
    Guest,
    /// The VMM refused.
    Vmm,
    /// A file could not be written.
    File,
    /// The monitor was killed meanwhile.
    Interrupted,
}

/// The road on which an event came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The serial console.
    Serial,
    /// The event stream.
    Vsock,
    /// The serial log, read again by a monitor that adopted the VM.
    SerialLog,
    /// The agent's copy.
    Agent,
}
