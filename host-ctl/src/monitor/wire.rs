//! What a monitor and its clients say: JSON lines on `monitor.sock`.
//!
//! A client sends any number of requests. After [`Request::Subscribe`] it gets every record of the latest boot, then
//! [`Message::Synced`], then each record the moment it is on disk. Each other request is answered by one
//! [`Message::Accepted`] or [`Message::Refused`], in order. The stream ends when the VMM is gone and all was said.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::vm::Record;

/// The longest request in bytes, its newline included.
pub const MAX_REQUEST: usize = 4 * 1024;

/// The longest message in bytes, its newline included: a record holds at most one sentinel or one error text.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Say everything that happens.
    Subscribe,
    /// End the VM cleanly. Repeating it is fine; the shortest grace wins.
    Stop {
        /// Milliseconds between the program's stop signal and SIGKILL; `None` is the spec's.
        grace_ms: Option<u32>,
    },
    /// End the VMM by force.
    Kill,
    /// Send a signal to the program's process group.
    Signal {
        /// The guest's signal number, 1 to 64.
        number: u8,
    },
    /// Hold the guest still.
    Pause,
    /// Let it go on.
    Resume,
    /// Save the guest. What becomes of it is said by a record, and the guest goes on either way.
    Snapshot {
        /// The directory to write to: a snapshot's draft, held by the client.
        draft: PathBuf,
    },
}

/// What a monitor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
pub enum Message {
    /// Something was recorded.
    Record {
        /// The record.
        record: Record,
        /// Whether it is on disk. It is not while the disk is full; it is then kept in memory and tried again.
        persisted: bool,
    },
    /// All that happened before is said.
    Synced,
    /// All records said to be unpersisted are on disk now.
    Persisted,
    /// The output log has grown or was rotated. Several of these may come as one.
    Output,
    /// The request is being carried out; what comes of it follows as records.
    Accepted,
    /// The request cannot be carried out.
    Refused {
        /// Why, in words.
        reason: String,
    },
}

/// What a new monitor says on its standard output, once, as a JSON line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "monitor", rename_all = "kebab-case")]
pub enum Ready {
    /// It listens; the VMM runs.
    Watching,
    /// The VMM is gone, and the record of its boot is complete. The monitor ends.
    Closed,
    /// Another monitor watches the VM. The new one ends.
    Taken,
    /// It cannot do its work and ends.
    Failed {
        /// Why, in words.
        reason: String,
        /// Whether it is the snapshot's fault, whose files are not what was saved.
        #[serde(default)]
        damaged: bool,
    },
}
