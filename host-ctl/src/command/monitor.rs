//! `monitor [--boot] VM_DIR`, which the library starts: one process for each VM.

use std::path::PathBuf;

use clap::Args;
use firstlight_host_ctl::monitor::{self, Task};

use crate::output::Failure;

/// Watch one VM; started by the other commands
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct Monitor {
    /// Start the VM instead of adopting it
    #[arg(long)]
    boot: bool,

    /// The VM's directory
    vm_dir: PathBuf,
}

impl Monitor {
    /// Not asynchronous: a monitor brings a runtime of its own.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let task = if self.boot { Task::Boot } else { Task::Adopt };
        monitor::run(&self.vm_dir, task).map_err(|error| Failure::failed(error.to_string()))
    }
}
