//! The two logs of a VM.
//!
//! [`rotate`] keeps any log within its bounds: a full `NAME` becomes `NAME.1`, that becomes `NAME.2`, and so on; nothing
//! is ever truncated. [`cri`] is one line of the program's output; [`OutputLog`] writes such lines and [`Reader`]
//! follows them across rotations. The serial log holds raw bytes, so its writer is the monitor's.

pub mod cri;
mod output;
pub mod position;
mod reader;
pub mod rotate;

pub use output::OutputLog;
pub use position::Position;
pub use reader::Reader;

use std::io;
use std::path::{Path, PathBuf};

/// A log could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", .path.display())]
pub struct LogError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl LogError {
    pub(crate) fn new(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
        let path = path.to_owned();
        move |source| LogError { operation, path, source }
    }

    /// Whether the disk is full: what was not written may be tried again.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}
