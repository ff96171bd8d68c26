//! What is said over a pool's socket: JSON lines, a request and its answer, one after the other.
//!
//! A client that goes away while it waits for a VM gives its place up.

use serde::{Deserialize, Serialize};

use super::service::Report;

/// The longest request in bytes, its newline included.
pub const MAX_REQUEST: usize = 4 * 1024;

/// The longest answer in bytes, its newline included: the status of a pool of the greatest size.
pub const MAX_ANSWER: usize = 4 << 20;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// A VM.
    Acquire {
        /// Longest wait in ms.
        wait_ms: u64,
        /// Length of the lease in ms.
        ttl_ms: u64,
    },
    /// A VM back.
    Release {
        /// Its name.
        vm: String,
        /// The lease, unless whoever holds it is meant.
        lease: Option<String>,
    },
    /// A VM for longer.
    Renew {
        /// Its name.
        vm: String,
        /// The lease, unless whoever holds it is meant.
        lease: Option<String>,
        /// Length of the lease in ms from now on.
        ttl_ms: u64,
    },
    /// The pool's status.
    Status,
    /// The pool's end.
    Drain {
        /// After how many ms VMs are taken from their holders; `None`: never.
        cut_after_ms: Option<u64>,
    },
    /// The end of VMs that bear the pool's name and that it does not know.
    Sweep,
}

/// What a pool answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// A VM.
    Granted {
        /// Its name.
        vm: String,
        /// The lease.
        lease: String,
        /// How long it lasts unless it is renewed.
        expires_in_ms: u64,
    },
    /// The lease was renewed.
    Renewed {
        /// How long it now lasts.
        expires_in_ms: u64,
    },
    /// It is done.
    Done,
    /// The status.
    Status(Box<Report>),
    /// VMs that were destroyed.
    Swept {
        /// Their names.
        vms: Vec<String>,
    },
    /// It is not done.
    Refused {
        /// Which kind of refusal.
        kind: RefusalKind,
        /// Why, in words.
        reason: String,
    },
}

/// The kinds of refusals, by what to do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The request makes no sense.
    BadRequest,
    /// No VM came free in time.
    TimedOut,
    /// The line is full, or the pool is being drained: try another, or later.
    Unavailable,
    /// The pool has no such VM.
    NoSuchVm,
    /// That lease is over.
    LeaseOver,
}
