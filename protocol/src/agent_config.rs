//! What init tells the agent it starts: JSON in an inherited descriptor (exec mode) or in a 0600 file on tmpfs
//! (systemd mode), so that the token never shows in an environment or an argument list.

use serde::{Deserialize, Serialize};

use crate::boot_spec::Transport;
use crate::hex::{BootId, Secret};

/// Environment variable: the number of the inherited descriptor to write [`READY_LINE`] to, once, when the agent
/// listens. Closing it without the line means the agent failed.
pub const READY_FD_ENV: &str = "FIRSTLIGHT_READY_FD";

/// Environment variable: the number of the inherited descriptor that holds an [`AgentConfig`] as JSON, read from
/// its start.
pub const CONFIG_FD_ENV: &str = "FIRSTLIGHT_CONFIG_FD";

/// What the agent writes to the ready descriptor; the wording follows `sd_notify(3)`.
pub const READY_LINE: &[u8] = b"READY=1\n";

/// Where init appends each sentinel of this boot as the agent's copy: tmpfs, mode 0600, one line each. Empty until the boot
/// is over, or has taken a second.
pub const EVENTS_PATH: &str = "/run/firstlight/events";

/// The agent's settings for this boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// This boot.
    pub boot_id: BootId,
    /// What a host has to show in its first frame.
    pub token: Secret,
    /// The vsock port to listen on.
    pub port: u32,
    /// Where it listens: on the vsock port, or on the virtio-serial port that stands in for it.
    #[serde(default, skip_serializing_if = "crate::boot_spec::goes_without_saying")]
    pub transport: Transport,
    /// The program's output, or `None` when init keeps none (systemd mode).
    #[serde(default)]
    pub program_output: Option<ProgramOutput>,
}

/// The program's two output streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramOutput {
    /// Standard output.
    pub stdout: OutputDescriptors,
    /// Standard error.
    pub stderr: OutputDescriptors,
}

/// Two inherited descriptors through which one output stream survives the agent.
///
/// The agent moves bytes with `splice(2)` from `pipe` into `log`, a memfd whose file position is the stream's
/// sequence number: the number of bytes the program has written so far. The kernel moves the bytes and the position
/// together, so an agent killed between two instructions has lost nothing, and its successor continues at
/// `lseek(log, 0, SEEK_CUR)`. Init keeps a duplicate of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputDescriptors {
    /// Read end of the program's pipe.
    pub pipe: i32,
    /// The memfd.
    pub log: i32,
}
