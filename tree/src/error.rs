//! What can go wrong with files.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use firstlight_protocol::message::copy::BadEntry;
use firstlight_protocol::message::error::{AgentError, Cause};
use rustix::io::Errno;

/// An operation on files failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{operation} {}: {}", path.display(), std::io::Error::from(*errno))]
    System {
        /// What was being done, such as `open`.
        operation: &'static str,
        /// To which file, as the caller named it or below that.
        path: PathBuf,
        /// Why not.
        errno: Errno,
    },
    /// It cannot be done to this file, and trying again will not help.
    #[error("{operation} {}: {reason}", path.display())]
    Refused {
        /// What was to be done.
        operation: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not, and what would do.
        reason: &'static str,
    },
    /// The stream has an entry that no sender makes.
    #[error(transparent)]
    BadEntry(#[from] BadEntry),
    /// The stream has entries and bytes in an order that no sender makes.
    #[error("malformed copy: {0}")]
    Stream(&'static str),
    /// Whoever takes the entries takes no more. Why is known there.
    #[error("the receiver is gone")]
    Outlet,
}

impl Error {
    /// Makes the error of a system call on `path`.
    pub(crate) fn system(operation: &'static str, path: &[u8]) -> impl Fn(Errno) -> Error {
        move |errno| Error::System { operation, path: path_of(path), errno }
    }

    /// Refuses an operation on `path`.
    pub(crate) fn refused(operation: &'static str, path: &[u8], reason: &'static str) -> Error {
        Error::Refused { operation, path: path_of(path), reason }
    }

    /// The errno of a failed system call.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::System { errno, .. } => Some(*errno),
            Error::Refused { .. } | Error::BadEntry(_) | Error::Stream(_) | Error::Outlet => None,
        }
    }
}

fn path_of(path: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(path)).to_owned()
}

/// The form in which the error crosses the wire.
impl From<Error> for AgentError {
    fn from(error: Error) -> AgentError {
        let text = |path: &Path| Some(path.to_string_lossy().into_owned());
        let (operation, path, cause) = match &error {
            Error::System { operation, path, errno } => {
                (*operation, text(path), Cause::Errno(errno.raw_os_error()))
            }
            Error::Refused { operation, path, reason } => {
                (*operation, text(path), Cause::Invalid((*reason).to_owned()))
            }
            Error::BadEntry(_) | Error::Stream(_) => ("copy", None, Cause::Invalid(error.to_string())),
            Error::Outlet => ("copy", None, Cause::Protocol(error.to_string())),
        };
        AgentError { operation: operation.to_owned(), path, cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_the_same_on_both_sides_of_the_wire() {
        let errors = [
            Error::system("open", b"/etc/shadow")(Errno::ACCESS),
            Error::refused("copy", b"/dir", "it is a directory"),
        ];
        let said = ["open /etc/shadow: Permission denied (os error 13)", "copy /dir: it is a directory"];
        for (error, text) in errors.into_iter().zip(said) {
            assert_eq!(error.to_string(), text);
            assert_eq!(AgentError::from(error).to_string(), text);
        }
    }
}
