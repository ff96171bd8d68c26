//! Why a pool cannot do its work, and why it does not do what it was asked.

use std::io;
use std::path::PathBuf;

use super::journal::RecordsError;
use super::policy::{BoundsError, LeaseError, Refusal};

/// A pool cannot be served, or not any longer. Its VMs stay as they are, and the next to serve it takes them over.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The name cannot be one.
    #[error(
        "{name:?} cannot be a pool's name: a letter or digit, then letters, digits, `_`, `.` and `-`, {most} bytes at most"
    )]
    BadName {
        /// The name.
        name: String,
        /// The longest name, in bytes.
        most: usize,
    },
    /// Somebody serves it already.
    #[error("pool {pool:?} is served by another process")]
    Served {
        /// The pool.
        pool: String,
    },
    /// Its bounds contradict each other.
    #[error(transparent)]
    Bounds(#[from] BoundsError),
    /// Its records cannot be read or written.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Its VMs cannot be listed.
    #[error("cannot list the VMs of pool {pool:?}: {reason}")]
    List {
        /// The pool.
        pool: String,
        /// Why, in words.
        reason: String,
    },
    /// A system call failed.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A pool did not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// It gives no VM.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It knows no such lease.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// It ended.
    #[error("the pool has ended")]
    Ended,
}
