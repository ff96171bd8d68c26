//! Why there is no snapshot, or no VM from it.

use std::io;
use std::path::{Path, PathBuf};

use crate::vm::store::StoreError;

/// A snapshot could not be taken, read or restored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A snapshot of that name exists.
    #[error(
        "the snapshot {name:?} exists; choose another name, or remove it with `host-ctl snapshots rm {name}`"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// There is none.
    #[error("there is no snapshot {name:?}; `host-ctl snapshots` lists all")]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// The name cannot be one.
    #[error(
        "{name:?} cannot be a name: letters, digits, `_`, `.` and `-`, not starting with one of these three"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// The snapshot's files are not what was saved.
    #[error("the snapshot {name:?} is damaged: {reason}")]
    Corrupt {
        /// The snapshot.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It was saved by something else than would restore it.
    #[error("the snapshot {name:?} was saved with {what} {saved}, and here is {here}; take it anew")]
    Mismatch {
        /// The snapshot.
        name: String,
        /// What differs.
        what: &'static str,
        /// What it was saved with.
        saved: String,
        /// What there is now.
        here: String,
    },
    /// The guest's memory cannot be mapped privately.
    #[error(
        "the snapshot {name:?} was taken of a VM with a vsock, which has to share its memory with others; restore it without \
         --private, or take it of a VM that was run with --transport serial"
    )]
    Unmappable {
        /// The snapshot.
        name: String,
    },
    /// The VM that is to be made cannot have the network that is asked for.
    #[error("{0}")]
    Network(String),
    /// `qemu-img` could not make an overlay.
    #[error("cannot make an overlay with qemu-img: {reason}")]
    Overlay {
        /// Its words.
        reason: String,
    },
    /// The work on it broke off.
    #[error("the work on the snapshot broke off")]
    Interrupted,
    /// The VM could not be made.
    #[error(transparent)]
    Store(#[from] StoreError),
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

impl SnapshotError {
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
        let path = path.to_owned();
        move |source| SnapshotError::Io { operation, path, source }
    }
}
