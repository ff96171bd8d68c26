//! Sentinels: one line that reports one event of the boot.
//!
//! ```text
//! FIRSTLIGHT-AGENT-READY boot=5f1c09ae seq=7 t=412003118 mac=9f0c2b77a1d4e893
//! ```
//!
//! `boot` names the boot, `seq` counts its events from 1, `t` is `CLOCK_BOOTTIME` in nanoseconds, then come the
//! event's own fields, and `mac` is last: HMAC-SHA256 (RFC 2104) over the line before ` mac=`, under the boot
//! spec's key, cut to 64 bits. The host believes a sentinel only if its MAC and boot hold; a program that prints one
//! is just printing. Serial and vsock carry the same lines, and `(boot, seq)` makes the same event heard twice one.
//!
//! [`line`] writes and reads one line, [`mac`] signs and proves it, [`scanner`] finds them in any byte stream.

pub mod line;
pub mod mac;
pub mod scanner;

use serde::{Deserialize, Serialize};

pub use line::{MAX_LINE, ParseError};
pub use mac::MacKey;
pub use scanner::{Piece, Scanner};

use crate::boot_spec::Mode;
use crate::hex::BootId;

/// One event of one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sentinel {
    /// The boot.
    pub boot: BootId,
    /// The event's number in its boot, from 1.
    pub seq: u64,
    /// Nanoseconds since the guest's kernel started (`CLOCK_BOOTTIME`).
    pub t: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What a sentinel reports. Names on the line are these in upper case with hyphens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "SCREAMING-KEBAB-CASE")]
pub enum Event {
    /// Init runs and has read its boot spec.
    InitStart,
    /// The guest goes on as a copy of another boot, restored from a snapshot. Stands in the place of INIT-START.
    Restored {
        /// The boot it is a copy of.
        from: BootId,
    },
    /// A stage of the boot ended well, or an optional one was skipped.
    StageDone {
        /// The stage's name, such as `root` or `volume:/data`.
        stage: String,
        /// How long it ran, in nanoseconds.
        dur: u64,
        /// The thread it ran on, from 0, for the boot chart.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        thread: Option<u32>,
        /// Its number in the boot's plan, from 0.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        index: Option<u32>,
        /// The numbers of the stages it waited for, without those that one of them waited for in turn. Empty too when
        /// they do not fit the line.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        needs: Vec<u32>,
        /// Why an optional stage did nothing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        skipped: Option<String>,
    },
    /// The agent listens.
    AgentReady,
    /// The agent ended and will be started again.
    AgentExit {
        /// How it ended.
        #[serde(flatten)]
        status: ExitStatus,
        /// How often it has been started again in this boot, this time included.
        restarts: u32,
    },
    /// The program's `execve` succeeded.
    ProgramStart {
        /// Whether init stays PID 1.
        mode: Mode,
        /// The program's process id in the guest.
        pid: u32,
    },
    /// The image's own init says it finished starting (systemd mode).
    SystemReady {
        /// systemd's word: `running` or `degraded`.
        state: String,
        /// Units that failed, separated by spaces.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        failed: String,
    },
    /// The headers worker started.
    HeadersStart,
    /// Kernel headers are installed.
    HeadersReady,
    /// Nothing had to be installed.
    HeadersSkipped {
        /// Why.
        reason: String,
    },
    /// The headers could not be installed. Says nothing of the lifecycle.
    HeadersFailed {
        /// Why.
        error: String,
    },
    /// The program ended.
    Exit {
        /// How.
        #[serde(flatten)]
        status: ExitStatus,
        /// Whether the kernel's OOM killer ended a process of it (`memory.events`).
        oom: bool,
    },
    /// The boot failed, or init met something it cannot go on after.
    Fatal {
        /// The stage it happened in.
        stage: String,
        /// The guest's `errno`, where a system call failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        errno: Option<i32>,
        /// The file or device concerned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// What went wrong, in words.
        error: String,
    },
    /// File systems are unmounted and power-off follows.
    PowerOff,
}

/// How a process ended.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, bincode::Encode, bincode::Decode,
)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// By `exit(2)` with this code, 0 to 255.
    Code(u8),
    /// By this signal, by the guest's number.
    Signal(u8),
}

impl ExitStatus {
    /// The code a shell reports for it: its own, or 128 plus the signal.
    #[must_use]
    pub fn shell_code(self) -> u8 {
        match self {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => 128_u8.saturating_add(signal),
        }
    }
}

impl Event {
    /// The event's name on the line, without the prefix: `AGENT-READY`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Event::InitStart => "INIT-START",
            Event::Restored { .. } => "RESTORED",
            Event::StageDone { .. } => "STAGE-DONE",
            Event::AgentReady => "AGENT-READY",
            Event::AgentExit { .. } => "AGENT-EXIT",
            Event::ProgramStart { .. } => "PROGRAM-START",
            Event::SystemReady { .. } => "SYSTEM-READY",
            Event::HeadersStart => "HEADERS-START",
            Event::HeadersReady => "HEADERS-READY",
            Event::HeadersSkipped { .. } => "HEADERS-SKIPPED",
            Event::HeadersFailed { .. } => "HEADERS-FAILED",
            Event::Exit { .. } => "EXIT",
            Event::Fatal { .. } => "FATAL",
            Event::PowerOff => "POWER-OFF",
        }
    }
}
