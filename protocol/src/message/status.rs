//! What the agent knows of its guest.

use serde::Serialize;

/// A snapshot of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Status {
    /// The agent's version, as in its crate.
    pub agent_version: String,
    /// The agent's process id.
    pub agent_pid: u32,
    /// The guest's kernel release (`uname -r`).
    pub kernel: String,
    /// The guest's host name.
    pub hostname: String,
    /// The kernel's own boot id (`/proc/sys/kernel/random/boot_id`), which differs from the host's.
    pub kernel_boot_id: String,
    /// Nanoseconds since the guest's kernel started (`CLOCK_BOOTTIME`).
    pub uptime_ns: u64,
    /// Commands that run now.
    pub running_execs: u32,
}
