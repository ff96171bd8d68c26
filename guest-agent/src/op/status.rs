//! What the agent knows of its guest.

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::status::Status;

use crate::agent::Agent;
use crate::{clock, system_file};

const KERNEL_RELEASE: &str = "/proc/sys/kernel/osrelease";
const HOSTNAME: &str = "/proc/sys/kernel/hostname";
const KERNEL_BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A snapshot of the guest.
///
/// # Errors
/// When `/proc` is not there to be read.
pub fn answer(agent: &Agent) -> Result<Status, AgentError> {
    Ok(Status {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        agent_pid: std::process::id(),
        kernel: line(KERNEL_RELEASE)?,
        hostname: line(HOSTNAME)?,
        kernel_boot_id: line(KERNEL_BOOT_ID)?,
        uptime_ns: clock::boottime_ns()?,
        running_execs: agent.processes.running(),
    })
}

fn line(path: &str) -> Result<String, AgentError> {
    Ok(system_file::read(path)?.trim_end().to_owned())
}
