//! Errors that cross the wire as such.

/// Why the agent could not do what was asked. Operation, path and errno travel apart, so that no one has to read
/// words to tell errors apart.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode, thiserror::Error)]
#[error("{operation}{}: {}", .path.as_ref().map(|path| format!(" {path}")).unwrap_or_default(), .cause)]
pub struct AgentError {
    /// What was being done, such as `spawn` or `open`.
    pub operation: String,
    /// The file concerned, with bytes that are not UTF-8 replaced.
    pub path: Option<String>,
    /// Why it failed.
    pub cause: Cause,
}

/// The kind of failure.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Cause {
    /// A system call failed with this `errno` of the guest.
    Errno(i32),
    /// The request contradicts itself or names what does not exist; repeating it will fail again.
    Invalid(String),
    /// A limit of the agent was reached; repeating it later may succeed.
    Busy(String),
    /// The peer broke the protocol. The connection closes.
    Protocol(String),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Errno(errno) => write!(f, "{}", std::io::Error::from_raw_os_error(*errno)),
            Cause::Invalid(reason) | Cause::Busy(reason) => f.write_str(reason),
            Cause::Protocol(reason) => write!(f, "protocol violation: {reason}"),
        }
    }
}
