//! What keeps a VM from being saved, known from what it is made of and what it began with.

use std::fmt;

use firstlight_protocol::boot_spec::Mode;

use super::Memory;
use crate::vm::VmSpec;
use crate::vm::fold::Boot;
use crate::vm::spec::Machine;

/// Why a VM cannot be saved, whatever it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Its machine cannot unplug the vsock.
    Microvm,
    /// Nobody in it could get it ready.
    NoAgent,
    /// Its memory is a private mapping of a snapshot's.
    Mapped,
    /// Systemd is its PID 1, and init's log is carried on by several processes that would all have to become a copy's.
    Systemd,
}

impl Obstacle {
    /// What stands in the way of saving a VM of `spec`, if anything does.
    #[must_use]
    pub fn of(spec: &VmSpec) -> Option<Obstacle> {
        if spec.skip_guest_agent {
            return Some(Obstacle::NoAgent);
        }
        match (spec.program.mode, spec.machine) {
            (Mode::Systemd, Machine::Microvm | Machine::Q35) => Some(Obstacle::Systemd),
            (Mode::Exec, Machine::Microvm) => Some(Obstacle::Microvm),
            (Mode::Exec, Machine::Q35) => None,
        }
    }

    /// What stands in the way of saving a VM in this boot of it, whatever it is made of.
    #[must_use]
    pub fn of_boot(boot: &Boot) -> Option<Obstacle> {
        match boot.memory {
            Memory::Mapped => Some(Obstacle::Mapped),
            Memory::Copied => None,
        }
    }

    /// What to do instead.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Obstacle::Microvm => "run it with --snapshot and without --machine",
            Obstacle::NoAgent => "run it without --skip-guest-agent",
            Obstacle::Mapped => {
                "restore it without --private, or stop and start it: it boots anew on its disks"
            }
            Obstacle::Systemd => "run its services in exec mode, or boot the image anew each time",
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Obstacle::Microvm => "its machine is a microvm, which cannot unplug its vsock",
            Obstacle::NoAgent => "it has no agent, which would get it ready",
            Obstacle::Mapped => "its memory is a private mapping of a snapshot's, which nobody else can see",
            Obstacle::Systemd => "it runs systemd, and only guests in exec mode can become another VM so far",
        })
    }
}
