//! One process for each VM, which owns its VMM, its serial stream, its events and its logs.
//!
//! ```text
//!             ┌────────────────────────── monitor ──────────────────────────┐
//!  FIFO ──────┼─► serial ─┐                                                 │
//!  vsock 1025 ┼─► events ─┼─► run (the one owner) ─► journal ─► subscribers ┼─► monitor.sock
//!  QMP ───────┼─► vmm ────┤        │                                        │
//!  pidfd ─────┼───────────┘        └─► stop: STOP, agent, quit, SIGKILL     │
//!  vsock 1024 ┼─► output ─► output.log                                      │
//!             └─────────────────────────────────────────────────────────────┘
//! ```
//!
//! It is not the VMM's lifeline: SIGKILL it at any instant and the next command starts another, which adopts the
//! VMM. [`client`] is how commands reach it, [`wire`] what both say.

pub mod client;
pub mod wire;

use std::path::Path;

/// A monitor could not do its work.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MonitorError(pub String);

/// What a new monitor is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Start the VM; one that runs already is adopted.
    Boot,
    /// Adopt the VM, or close the record of a boot whose VMM is gone.
    Adopt,
}

/// The whole life of a monitor: the entry point of the hidden subcommand `monitor [--boot] VM_DIR`. It returns when
/// the VMM is gone. Standard output is a pipe to whoever started it, for [`wire::Ready`]; standard error its log.
///
/// # Errors
/// [`MonitorError`], which was also written to the pipe.
pub fn run(_vm_dir: &Path, _task: Task) -> Result<(), MonitorError> {
    Err(MonitorError("not written yet".into()))
}
