//! Why a connection cannot be had, or not used any more.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::key::Generation;

/// No connection was given.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError<E> {
    /// The one dial that all who waited shared has failed. The next acquire dials anew.
    #[error(transparent)]
    Dial(Arc<DialError<E>>),
    /// There was no room before the deadline.
    #[error("the connection pool is busy: {0}; release a connection, or wait longer")]
    Busy(Limit),
    /// The deadline passed while the connection was being made. The pool goes on making it.
    #[error("timed out waiting for the connection to be made")]
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
}

/// Dialling ended without a connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError<E> {
    /// The dialer said so.
    #[error(transparent)]
    Failed(E),
    /// The dialer panicked.
    #[error("the dialer panicked: {0}")]
    Panicked(String),
    /// The dialer took too long.
    #[error("timed out after {} s waiting for the dialer", .0.as_secs())]
    TimedOut(Duration),
}

/// What there was no room in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Limit {
    /// So many targets are in use.
    #[error("all {0} targets are in use")]
    Targets(usize),
    /// So many connections are open, counting those which are used up but still held.
    #[error("all {0} connections are open")]
    Connections(usize),
    /// So many callers wait already; this one was not queued.
    #[error("{0} callers wait already")]
    Waiters(usize),
}

/// Why a connection is not to be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poison {
    /// A holder said so.
    Explicit,
    /// Bytes could not be carried.
    Transport,
    /// The peer said something that is not the protocol.
    Framing,
    /// A use was given up half-way, so requests or answers may be cut in two.
    Unfinished,
    /// A holder panicked.
    Panicked,
    /// The VM was booted or restored again.
    Superseded,
    /// The pool was closed, and its deadline passed.
    Closed,
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Poison::Explicit => "a holder gave it up",
            Poison::Transport => "the transport failed",
            Poison::Framing => "the peer broke the protocol",
            Poison::Unfinished => "a use of it was not finished",
            Poison::Panicked => "a holder panicked",
            Poison::Superseded => "the VM was booted again",
            Poison::Closed => "the pool was closed",
        })
    }
}

/// An operation on a pooled connection failed.
#[derive(Debug, thiserror::Error)]
pub enum UseError<E> {
    /// The operation itself says so.
    #[error(transparent)]
    Failed(E),
    /// The connection was poisoned before the operation ended.
    #[error("the pooled connection cannot be used any more: {0}")]
    Poisoned(Poison),
}

/// An error that knows whether it leaves the connection usable.
///
/// The answer comes from the error's type. An error the application at the other end reports travelled over a
/// connection that works, and poisons nothing.
pub trait Fault {
    /// Why the connection is spoilt, or `None` when it is as good as before.
    fn fault(&self) -> Option<Poison>;
}
