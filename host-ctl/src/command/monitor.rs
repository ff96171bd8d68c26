//! `monitor [--boot] VM_DIR`, which the library starts: one process for each VM.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser};
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

/// The command without all the others.
#[derive(Debug, Parser)]
struct Alone {
    #[command(flatten)]
    monitor: Monitor,
}

impl Monitor {
    /// Understands a command line as [`firstlight_host_ctl::monitor::client`] makes them. A monitor lives as long as its
    /// VM, and what the parser of all commands touches would stay in its memory; what this one does not understand is the
    /// other's to explain.
    pub(crate) fn alone(arguments: &[OsString]) -> Option<Monitor> {
        let own = arguments.get(1..).filter(|own| own.first().is_some_and(|name| name == "monitor"))?;
        Some(Alone::try_parse_from(own).ok()?.monitor)
    }

    /// Not asynchronous: a monitor brings a runtime of its own.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let task = if self.boot { Task::Boot } else { Task::Adopt };
        monitor::run(&self.vm_dir, task).map_err(|error| Failure::failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(line: &str) -> Option<(bool, PathBuf)> {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Monitor::alone(&arguments).map(|monitor| (monitor.boot, monitor.vm_dir))
    }

    #[test]
    fn a_monitor_s_command_line_is_understood_by_itself_and_no_other_is() {
        assert_eq!(alone("host-ctl monitor --boot /vm"), Some((true, "/vm".into())));
        assert_eq!(alone("host-ctl monitor /vm"), Some((false, "/vm".into())));
        assert_eq!(alone("host-ctl monitor"), None);
        assert_eq!(alone("host-ctl run monitor"), None);
    }
}
