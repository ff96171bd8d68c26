//! The part of the host that knows a VMM.
//!
//! A [`MachineConfig`] says what a VM needs in words every VMM understands; a [`Driver`] turns it into a command and
//! speaks to the process that comes of it. [`process`] starts processes so that none is ever running unrecorded.

pub mod accel;
pub mod config;
pub mod process;
pub mod qemu;

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

pub use config::MachineConfig;

use crate::vm::Record;

/// One kind of VMM.
pub trait Driver {
    /// The command that runs `machine`. Its working directory has to be the VM's. It is handed the socket that listens on
    /// [`Driver::control_socket`]: who has made that can connect at once, and need not look for it.
    fn command(&self, machine: &MachineConfig, control: UnixListener) -> Command;

    /// The process's control socket, relative to the VM's directory.
    fn control_socket(&self) -> &Path;
}

/// What a VMM says of its guest without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmmEvent {
    /// The guest stands still.
    Paused,
    /// The guest moves again.
    Resumed,
    /// The guest powered off, was reset or panicked. The VMM holds it so that its last output can be read, and is told
    /// to quit after that.
    GuestOff,
}

impl VmmEvent {
    /// The record of it, if it is worth one.
    #[must_use]
    pub fn record(self) -> Option<Record> {
        let paused = |paused| Some(Record::now(crate::vm::Entry::Paused { paused }));
        match self {
            VmmEvent::Paused => paused(true),
            VmmEvent::Resumed => paused(false),
            VmmEvent::GuestOff => None,
        }
    }
}
