//! What can go wrong between the host and an agent, by who has to act.

use std::io;

use firstlight_protocol::codec::CodecError;
use firstlight_protocol::frame::FrameError;
use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::hello::Refusal;
use firstlight_socket::bulk::BulkError;

use super::connection_pool::{AcquireError, DialError, Generation, Limit, Poison};

/// A conversation with an agent failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers: the guest does not listen, or the VMM or its backend is gone.
    #[error("cannot reach the agent at {address}: {source}")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// What the connection ended in.
        source: io::Error,
    },
    /// The agent answered and wants none of us.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The peer said something no agent says. The connection cannot be used any more.
    #[error("the agent broke the protocol: {0}")]
    Protocol(String),
    /// The agent could not do what was asked.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The deadline passed.
    #[error("timed out waiting for {0}")]
    Timeout(Awaited),
    /// The connection ended in the middle of a conversation.
    #[error("the connection to the agent was lost: {0}")]
    Lost(io::Error),
    /// What was to be sent does not fit in a frame.
    #[error("the request is too large: {0}")]
    TooLarge(CodecError),
    /// There was no pooled connection to be had, or it was taken away.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// The connection pool has no connection for a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// There was no room before the deadline.
    #[error("the connection pool is busy: {0}; let other requests finish, or wait longer")]
    Busy(Limit),
    /// The deadline passed while the connection was being made.
    #[error("timed out waiting for a connection to the agent")]
    TimedOut,
    /// The VM has been booted or restored since.
    #[error("the VM is at boot {newer} by now; look it up again")]
    Superseded {
        /// The newest boot the pool has heard of.
        newer: Generation,
    },
    /// The pool was closed.
    #[error("the connection pool is closed")]
    Closed,
    /// Making the connection ended in a panic.
    #[error("making a connection to the agent panicked: {0}")]
    Panicked(String),
    /// The connection was taken away before the answer came.
    #[error("the pooled connection cannot be used any more: {0}")]
    Poisoned(Poison),
}

impl From<Poison> for PoolError {
    fn from(poison: Poison) -> PoolError {
        PoolError::Poisoned(poison)
    }
}

impl From<AcquireError<Error>> for Error {
    fn from(error: AcquireError<Error>) -> Error {
        match error {
            AcquireError::Dial(dial) => match &*dial {
                DialError::Failed(error) => error.repeat(),
                DialError::Panicked(message) => PoolError::Panicked(message.clone()).into(),
                DialError::TimedOut(_) => Error::Timeout(Awaited::Connect),
            },
            AcquireError::Busy(limit) => PoolError::Busy(limit).into(),
            AcquireError::TimedOut => PoolError::TimedOut.into(),
            AcquireError::Superseded { newer } => PoolError::Superseded { newer }.into(),
            AcquireError::Closed => PoolError::Closed.into(),
        }
    }
}

/// What a wait was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Awaited {
    /// `connect(2)` and, over vhost-user, the backend's `OK` line.
    #[error("the connection to the guest")]
    Connect,
    /// The answer to the hello.
    #[error("the agent's hello")]
    Welcome,
    /// The answer to a request.
    #[error("the agent's answer")]
    Answer,
    /// The next piece of a copy, in either direction.
    #[error("the copy to go on")]
    Copy,
}

impl From<FrameError> for Error {
    fn from(error: FrameError) -> Self {
        Error::Protocol(error.to_string())
    }
}

impl From<BulkError> for Error {
    fn from(error: BulkError) -> Self {
        match error {
            BulkError::Io { source, .. } if source.kind() == io::ErrorKind::TimedOut => {
                Error::Timeout(Awaited::Copy)
            }
            BulkError::Io { source, .. } => Error::Lost(source),
            BulkError::Truncated => Error::Lost(io::ErrorKind::UnexpectedEof.into()),
            BulkError::Frame(error) => error.into(),
            BulkError::Codec(error) => error.into(),
        }
    }
}

impl From<CodecError> for Error {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::TooLarge { .. } => Error::TooLarge(error),
            CodecError::Malformed { .. } | CodecError::TrailingBytes { .. } => {
                Error::Protocol(error.to_string())
            }
        }
    }
}

impl Error {
    /// The same error once more, for the other requests that a broken connection takes with it.
    pub(super) fn repeat(&self) -> Error {
        match self {
            Error::Unreachable { address, source } => {
                Error::Unreachable { address: address.clone(), source: again(source) }
            }
            Error::Refused(refusal) => Error::Refused(*refusal),
            Error::Protocol(reason) => Error::Protocol(reason.clone()),
            Error::Agent(error) => Error::Agent(error.clone()),
            Error::Timeout(awaited) => Error::Timeout(*awaited),
            Error::Lost(source) => Error::Lost(again(source)),
            Error::TooLarge(error) => Error::TooLarge(error.clone()),
            Error::Pool(error) => Error::Pool(error.clone()),
        }
    }
}

fn again(error: &io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or_else(|| io::Error::new(error.kind(), error.to_string()), io::Error::from_raw_os_error)
}
