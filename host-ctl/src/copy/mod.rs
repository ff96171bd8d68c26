//! Copying files between host and guest, each copy on a connection of its own.
//!
//! ```text
//!  push   path ─► firstlight_tree::send ─┐
//!         tar  ─► archive::read ─────────┴─► frames ─► BulkWriter ─► socket      agent
//!
//!  pull   socket ─► BulkReader ─┬─► firstlight_tree::Sink ─► path
//!                               └─► archive::Writer ───────► tar
//! ```
//!
//! Files block, so a thread has them, and the socket with them: no byte is handed from one thread to another. The caller's
//! task hears of an agent that refuses a push.

mod archive;
mod line;
mod pull;
mod push;

#[cfg(test)]
mod tests;

use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use firstlight_protocol::codec::CodecError;
use firstlight_protocol::message::copy::{Entry, Shape};
use firstlight_protocol::message::file::Place;
use firstlight_protocol::message::sync::Owner;

use crate::agent;

pub use archive::ArchiveError;
pub use pull::{fetch, pull};
pub use push::push;

/// How long neither end may move a byte. A guest that is paused comes back within it or not at all.
const IDLE: Duration = Duration::from_mins(10);

/// What is copied into a guest.
pub enum Source {
    /// A file or directory.
    Path {
        /// Where it is. A path that ends in `/.` means what is in the directory.
        path: PathBuf,
        /// Whether a symbolic link there stands for what it points to.
        follow: bool,
    },
    /// A tar archive, plain or gzipped.
    Archive(Box<dyn Read + Send>),
    /// A part of what is in a directory.
    Selected(Selection),
}

/// A part of what is in a directory, for a sync.
pub struct Selection {
    /// What the directory itself is.
    pub base: Entry,
    /// The paths below it, parents before what is in them.
    pub paths: Vec<Vec<u8>>,
    /// Whose they become.
    pub owner: Owner,
    /// Where the directory is.
    pub place: Place,
    /// Told how many bytes of content have moved since the last time.
    pub moved: Moved,
}

/// Is told of bytes that moved.
pub type Moved = Arc<dyn Fn(u64) + Send + Sync>;

/// Where a guest's files go.
pub enum Destination {
    /// A file or directory, there already or not; see [`Shape`].
    Path {
        /// Where it is.
        path: PathBuf,
        /// Whether the copy ends only when everything is on the disk.
        durable: bool,
    },
    /// A tar archive.
    Archive(Box<dyn Write + Send>),
}

/// A copy failed. What was not shown under its name by then never will be.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// In the guest, or on the way there.
    #[error(transparent)]
    Guest(#[from] agent::Error),
    /// On the host.
    #[error(transparent)]
    Host(firstlight_tree::Error),
    /// In the archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The caller wanted no more.
    #[error("the copy was interrupted")]
    Interrupted,
}

impl From<CodecError> for CopyError {
    fn from(error: CodecError) -> CopyError {
        CopyError::Guest(error.into())
    }
}

/// A path of the host as a place. Files on the host are reached as any program reaches them: the root is the host's own.
fn on_host(path: &Path) -> Result<Place, CopyError> {
    let bytes = path.as_os_str().as_bytes();
    if path.is_absolute() || bytes.is_empty() {
        return Ok(Place::new(bytes));
    }
    // Joined as bytes: a slash or a dot at the end has a meaning here, which `Path` takes away.
    let directory = rustix::process::getcwd(Vec::new()).map_err(|errno| {
        CopyError::Host(firstlight_tree::Error::System { operation: "getcwd", path: path.into(), errno })
    })?;
    Ok(Place::new([directory.as_bytes(), b"/", bytes].concat()))
}

/// The thread that has the files is lost only when the runtime ends.
fn joined<T>(result: Result<Result<T, CopyError>, tokio::task::JoinError>) -> Result<T, CopyError> {
    result.unwrap_or(Err(CopyError::Interrupted))
}

/// The shape of a guest's path as the source of a pull.
fn shape(place: &Place) -> Shape {
    Shape::of_source(&place.path)
}
