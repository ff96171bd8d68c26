//! Copies as tar archives: POSIX headers of the GNU kind, with PAX records for what those cannot say (times below
//! a second, attributes, long names) and GNU's maps of sparse files. Source: `tar(5)`.

mod members;
mod pax;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::io;

use firstlight_protocol::message::copy::BadEntry;

pub(super) use read::read;
pub(super) use write::Writer;

/// Headers and data come in units of this many bytes.
const BLOCK: usize = 512;

/// An archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream failed.
    #[error("{operation} the archive: {source}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The bytes are no archive, or a damaged one.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// The archive ends without its end mark: whoever wrote it was interrupted.
    #[error("the archive is cut short: its end mark is missing")]
    Truncated,
    /// It has a member of a kind that is not copied.
    #[error("the archive's member {path} {reason}")]
    Unsupported {
        /// The member.
        path: String,
        /// What is not supported, and what would be.
        reason: &'static str,
    },
    /// It has a member that would leave the destination, or makes no sense.
    #[error("the archive has a member that is refused: {0}")]
    Refused(#[from] BadEntry),
    /// The agent takes no more; its reason is the copy's.
    #[error("the copy ended before the archive did")]
    Outlet,
    /// The agent's stream makes no sense.
    #[error("malformed copy: {0}")]
    Stream(&'static str),
}

impl From<firstlight_tree::Error> for ArchiveError {
    fn from(error: firstlight_tree::Error) -> ArchiveError {
        match error {
            firstlight_tree::Error::BadEntry(bad) => ArchiveError::Refused(bad),
            firstlight_tree::Error::Outlet => ArchiveError::Outlet,
            firstlight_tree::Error::Stream(reason) => ArchiveError::Stream(reason),
            firstlight_tree::Error::System { .. } | firstlight_tree::Error::Refused { .. } => {
                ArchiveError::Damaged(error.to_string())
            }
        }
    }
}

/// Zeros that fill the last block of `length` bytes.
fn padding(length: u64) -> &'static [u8] {
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let used = usize::try_from(length % BLOCK as u64).unwrap_or(0);
    &ZEROS[..(BLOCK - used) % BLOCK]
}
