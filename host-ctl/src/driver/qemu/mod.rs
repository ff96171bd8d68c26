//! QEMU, by its system emulator for x86-64.

mod args;
#[cfg(test)]
mod fake;
pub mod memory;
pub mod qmp;
pub mod vsock;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use super::{Driver, MachineConfig};

/// Where QEMU takes its control connection, on a socket that was made for it.
pub const QMP_SOCKET: &str = "boot/qmp.sock";

/// QEMU.
#[derive(Debug, Clone, Copy)]
pub struct Qemu;

impl Driver for Qemu {
    fn command(&self, machine: &MachineConfig, control: UnixListener) -> Command {
        let mut command = Command::new(&machine.vmm);
        command.args(args::of(machine)).stdin(OwnedFd::from(control));
        command
    }

    fn control_socket(&self) -> &Path {
        Path::new(QMP_SOCKET)
    }
}
