//! Running a command in the guest.

use super::error::AgentError;
use crate::sentinel::ExitStatus;

/// Most bytes of one `Stdin`, `Stdout` or `Stderr` frame.
pub const MAX_CHUNK: usize = 64 * 1024;

/// Start a command. The connection then belongs to it until [`ExecEnd`].
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ExecRequest {
    /// The command and its arguments; no shell is involved. A name without a slash is looked for in `PATH`.
    pub argv: Vec<Vec<u8>>,
    /// Variables set on top of the agent's default environment.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Working directory; `None` is `/`.
    pub cwd: Option<Vec<u8>>,
    /// `user`, `uid`, `user:group` or `uid:gid`; `None` is root.
    pub user: Option<String>,
    /// Whether standard input is sent; otherwise it is `/dev/null`.
    pub stdin: bool,
    /// After this many milliseconds the whole process group gets SIGTERM; `None` is never.
    pub timeout_ms: Option<u32>,
    /// Milliseconds between that SIGTERM and SIGKILL.
    pub kill_after_ms: u32,
}

/// The command's `execve` succeeded.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ExecStarted {
    /// Its process id in the guest, which is also its process group's.
    pub pid: u32,
}

/// Send a signal to the command's process group.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SignalRequest {
    /// The guest's signal number, 1 to 64.
    pub number: u8,
}

/// The command ended. All its output that was in the pipes at that moment came before; a background child that
/// still holds them delays nothing.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ExecEnd {
    /// How.
    pub outcome: ExecOutcome,
}

/// How a command ended. Each is a different answer, so nobody guesses from an exit code.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum ExecOutcome {
    /// On its own.
    Exited(ExitStatus),
    /// By its timeout; this is how it then died.
    TimedOut(ExitStatus),
    /// By the kernel's OOM killer.
    OutOfMemory(ExitStatus),
    /// It never started.
    SpawnFailed(AgentError),
}
