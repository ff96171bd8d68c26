//! Making the errors that cross the wire.

use std::io;
use std::path::Path;

use firstlight_protocol::message::error::{AgentError, Cause};
use nix::errno::Errno;

/// A system call failed.
#[must_use]
pub fn system(operation: &str, path: Option<&Path>, error: &io::Error) -> AgentError {
    // The few errors of the standard library that carry no number are all about arguments.
    let errno = error.raw_os_error().unwrap_or(Errno::EINVAL as i32);
    let path = path.map(|path| path.to_string_lossy().into_owned());
    AgentError { operation: operation.to_owned(), path, cause: Cause::Errno(errno) }
}

/// The request cannot be met as it is.
#[must_use]
pub fn invalid(operation: &str, reason: impl Into<String>) -> AgentError {
    AgentError { operation: operation.to_owned(), path: None, cause: Cause::Invalid(reason.into()) }
}

/// A bound of the agent was reached.
#[must_use]
pub fn busy(operation: &str, reason: impl Into<String>) -> AgentError {
    AgentError { operation: operation.to_owned(), path: None, cause: Cause::Busy(reason.into()) }
}

/// The peer broke the protocol.
#[must_use]
pub fn protocol(reason: impl Into<String>) -> AgentError {
    AgentError { operation: "read request".to_owned(), path: None, cause: Cause::Protocol(reason.into()) }
}
