//! One process for each VM, which owns its VMM, its serial stream, its events and its logs.
//!
//! ```text
//!             ┌──────────────────────────── monitor ────────────────────────────┐
//!  FIFO ──────┼─► serial ─────────┐                                             │
//!  vsock      ┼─► events ─────────┼─► owner ─► ledger (journal) ─► subscribers ─┼─► monitor.sock
//!  QMP, pidfd ┼─► vmm ────────────┤     │                                       │
//!  agent      ┼─► program_output ─┘     └─► stop: STOP, agent, quit, SIGKILL    │
//!             │ connections to the guest, for clients ──────────────────────────┼─► dialer.sock
//!             └─────────────────────────────────────────────────────────────────┘
//! ```
//!
//! It is not the VMM's lifeline: SIGKILL it at any instant and the next command starts another, which adopts the
//! VMM. [`client`] is how commands reach it, [`wire`] what both say. Its working directory is the VM's, and all its
//! paths are relative to that.

pub mod client;
pub mod wire;

mod agent_calls;
mod closing;
mod console_output;
mod error;
mod events;
mod files;
mod input;
mod ledger;
mod life;
mod owner;
mod port;
mod program_output;
mod restore;
mod road;
mod save;
mod serial;
mod server;
mod signals;
mod start;
mod stop;
mod tasks;
mod vmm;

use std::path::Path;

pub use error::MonitorError;

use crate::snapshot::SnapshotError;
use wire::Ready;

/// What a new monitor is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Start the VM; one that runs already is adopted.
    Boot,
    /// Adopt the VM, or close the record of a boot whose VMM is gone.
    Adopt,
}

/// The whole life of a monitor: the entry point of the hidden subcommand `monitor [--boot] VM_DIR`. It returns when
/// the VMM is gone. Standard output is a pipe to whoever started it, for one [`Ready`]; standard error is its log.
///
/// # Errors
/// [`MonitorError`], which was also written to the pipe.
pub fn run(vm_dir: &Path, task: Task) -> Result<(), MonitorError> {
    std::env::set_current_dir(vm_dir).map_err(MonitorError::io("enter", vm_dir))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(MonitorError::io("start the runtime for", vm_dir))?;
    match runtime.block_on(life::live(vm_dir, task)) {
        Ok(()) => Ok(()),
        Err(MonitorError::Taken) => {
            announce(&Ready::Taken);
            Ok(())
        }
        Err(error) => {
            let damaged = matches!(error, MonitorError::Snapshot(SnapshotError::Corrupt { .. }));
            announce(&Ready::Failed { reason: error.to_string(), damaged });
            Err(error)
        }
    }
}

/// Says to whoever started us how it went, and closes the pipe: they wait for its end. Only the first words are heard.
fn announce(ready: &Ready) {
    // They may have gone, and then nobody wants to know.
    let words = serde_json::to_string(ready).unwrap_or_default();
    let _ = rustix::io::write(rustix::stdio::stdout(), words.as_bytes());
    if let Ok(null) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(null);
    }
}
