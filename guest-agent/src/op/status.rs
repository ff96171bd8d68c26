//! What the agent knows of its guest.

use std::io;
use std::path::Path;
use std::time::Duration;

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::status::Status;
use nix::time::{ClockId, clock_gettime};

use crate::agent::Agent;
use crate::failure;

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
        uptime_ns: uptime_ns().map_err(|error| failure::system("read CLOCK_BOOTTIME", None, &error))?,
        running_execs: agent.processes.running(),
    })
}

fn line(path: &str) -> Result<String, AgentError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| failure::system("read", Some(Path::new(path)), &error))?;
    Ok(text.trim_end().to_owned())
}

fn uptime_ns() -> io::Result<u64> {
    let uptime = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    Ok(u64::try_from(uptime.as_nanos()).unwrap_or(u64::MAX))
}
