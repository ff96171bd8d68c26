//! Beside systemd: what guest-init does when it is not PID 1, and when it is PID 1 once more.
//!
//! ```text
//!  guest-init, PID 1 ──exec──► systemd, PID 1 ──────────────────────exec──► guest-init, PID 1
//!    witness: PROGRAM-START      ├─ guest-init events                        EXIT, unmount, POWER-OFF
//!                                │     the log ──► the host's vsock
//!                                │     STOP ──► SIGRTMIN+4 to PID 1
//!                                │     systemctl ──► SYSTEM-READY
//!                                ├─ guest-init install-headers
//!                                └─ guest-agent
//!                                      ├─ guest-init report agent-ready
//!                                      └─ guest-init report agent-exit
//! ```
//!
//! In an image that boots by itself, `guest-init adopt` comes first instead: it takes the settings from systemd's credential
//! and says the two events that are past by then.
//!
//! The log is the file at `EVENTS_PATH`: whoever has something to say appends a line under its lock, with the number
//! after the last line's. Only guest-init has the key, so the agent is as unable to forge an event as ever.

mod adopt;
mod events;
mod handover;
mod record;
mod report;
mod system_state;

use std::ffi::CStr;
use std::fmt;
use std::sync::Arc;

use firstlight_protocol::boot_spec::{BootSpec, Headers};
use firstlight_protocol::sentinel::{Event, ExitStatus};
use firstlight_protocol::units::{
    ADOPT_COMMAND, BOOT_SPEC_PATH, EVENTS_COMMAND, HEADERS_COMMAND, REPORT_COMMAND,
};
use nix::errno::Errno;

use crate::console;
use crate::error::{CallError, Cause, Fault};
use crate::report::Reporter;
use crate::wait::Flag;
use crate::{Exit, headers, sys, teardown};
pub(crate) use handover::hand_over;

/// What systemd calls the program that it gives PID 1 to at the end.
const SHUTDOWN: &CStr = c"/shutdown";

/// Where the root of systemd is then.
const OLD_ROOT: &str = "/oldroot";

/// This boot's spec could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("{reason}")]
    Document { reason: String, path: String },
}

impl Cause for SettingsError {
    fn errno(&self) -> Option<Errno> {
        match self {
            SettingsError::Call(error) => error.errno(),
            SettingsError::Document { .. } => None,
        }
    }

    fn path(&self) -> Option<&str> {
        match self {
            SettingsError::Call(error) => error.path(),
            SettingsError::Document { path, .. } => Some(path),
        }
    }
}

/// The spec that PID 1 left.
fn settings() -> Result<BootSpec, SettingsError> {
    let bytes = std::fs::read(BOOT_SPEC_PATH).map_err(CallError::io("read", BOOT_SPEC_PATH))?;
    BootSpec::from_json(&bytes).map_err(|error| SettingsError::Document {
        reason: error.to_string(),
        path: BOOT_SPEC_PATH.to_owned(),
    })
}

/// Does what a process of ours that is not PID 1 was started for: `command`, with one argument where it takes one.
pub(crate) fn serve(command: &str, what: &str) -> Exit {
    let done = match command {
        ADOPT_COMMAND => adopt::adopt(),
        HEADERS_COMMAND => return install_headers(),
        EVENTS_COMMAND => events::carry(),
        REPORT_COMMAND => report::report(what),
        _ => return refuse(&"this is a virtual machine's init; it does nothing unless it is process 1"),
    };
    match done {
        Ok(()) => Exit::Success,
        Err(fault) => refuse(&fault),
    }
}

/// The headers worker, as a unit.
fn install_headers() -> Exit {
    let spec = match settings() {
        Ok(spec) => spec,
        Err(error) => return refuse(&error),
    };
    let Some(Headers { serial, mask_others }) = spec.headers.clone() else { return Exit::Success };
    if let Err(error) = record::say(&spec, &Event::HeadersStart) {
        return refuse(&error);
    }
    headers::run(headers::Options { serial, mask_others }.arguments().into_iter().skip(1))
}

fn refuse(why: &dyn fmt::Display) -> Exit {
    console::say(&why.to_string());
    Exit::Failure
}

/// Whether systemd has brought the system down and gives PID 1 back, told by what it calls it.
pub(crate) fn has_ended(name: &CStr) -> bool {
    name == SHUTDOWN
}

/// The end of a VM that was systemd's. Comes back only when it fails before there is a log to go on with.
pub(crate) fn end() -> Result<(), Fault> {
    sys::prepare_process().map_err(CallError::of("block signals"))?;
    sys::power_off_on_crash().map_err(CallError::of("sigaction"))?;
    let spec = settings()?;
    let wake = Arc::new(Flag::new().map_err(CallError::of("eventfd"))?);
    // Without one of the two sinks, the other has to do.
    let reporter = Reporter::resume(&spec, console::open().ok(), wake)?;
    teardown::end_on_panic(reporter.clone());
    let _ = reporter.tell();
    if spec.boot.event_stream {
        let _ = reporter.open_stream();
    }
    // systemd ends in no other way than in order; one that fails keeps PID 1 for ever.
    reporter.emit(Event::Exit { status: ExitStatus::Code(0), oom: false });
    teardown::end_below(OLD_ROOT, &reporter)
}
