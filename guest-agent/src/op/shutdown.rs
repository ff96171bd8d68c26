//! Ending the VM from inside.

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::shutdown::ShutdownRequest;
use nix::unistd::getppid;

use crate::agent::Agent;
use crate::session::SessionError;
use crate::wire::Connection;
use crate::{failure, journal, sys};

const PID_1: i32 = 1;

/// Who ends the VM, and how they are asked.
///
/// There is none for an agent that does not run in a VM: its PID 1 would be that of somebody's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerSwitch {
    /// guest-init: SIGTERM that carries the grace.
    Init,
    /// systemd: `SIGRTMIN+4`. The grace is then its units' own.
    Systemd,
}

impl PowerSwitch {
    /// Finds the switch. Two things have to hold: the agent listens on vsock, and PID 1 itself started it, as guest-init
    /// and systemd both do.
    #[must_use]
    pub fn find(in_vm: bool, init_keeps_output: bool) -> Option<PowerSwitch> {
        if !in_vm || getppid().as_raw() != PID_1 {
            return None;
        }
        Some(if init_keeps_output { PowerSwitch::Init } else { PowerSwitch::Systemd })
    }

    fn pull(self, request: &ShutdownRequest) -> std::io::Result<()> {
        match self {
            PowerSwitch::Init => sys::queue_signal(PID_1, libc::SIGTERM, grace_value(request.grace_ms)),
            PowerSwitch::Systemd => sys::kill(PID_1, sys::systemd_power_off_signal()),
        }
    }
}

/// The number that goes with the signal. There 0 means the boot spec's grace, so that a request for none at all becomes
/// the shortest there is.
fn grace_value(grace_ms: Option<u32>) -> u32 {
    grace_ms.map_or(0, |grace| grace.max(1))
}

/// Answers, then ends the VM.
///
/// # Errors
/// [`SessionError`] when the answer could not be sent. The VM then goes on.
pub async fn run(
    agent: &Agent,
    connection: &mut Connection,
    id: u64,
    request: &ShutdownRequest,
) -> Result<(), SessionError> {
    let Some(power) = agent.power else {
        let error = failure::invalid("shut down", "this agent was not started by the init of a VM");
        return Ok(connection.writer.send(Kind::Error, id, &codec::encode(&error)?).await?);
    };
    connection.writer.send(Kind::ShutdownAccepted, id, &[]).await?;
    if let Err(error) = power.pull(request) {
        journal::say(&format_args!("ask PID 1 to shut down: {error}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_a_vm_there_is_no_switch() {
        assert_eq!(PowerSwitch::find(false, true), None);
        assert_eq!(PowerSwitch::find(false, false), None);
    }

    #[test]
    fn no_grace_is_told_apart_from_the_boot_spec_s() {
        assert_eq!(grace_value(None), 0);
        assert_eq!(grace_value(Some(0)), 1);
        assert_eq!(grace_value(Some(2500)), 2500);
    }
}
