//! Why headers could not be installed.

use firstlight_protocol::headers::{EntryError, ManifestError};
use nix::errno::Errno;

use crate::error::{CallError, Cause};
use crate::stage::mounts::MountError;

/// Headers could not be installed. The lifecycle of the VM does not depend on it.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeadersError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("the bundle is refused: {0}")]
    Member(#[from] EntryError),
    #[error("not a whole headers bundle: {reason}; make it anew with `host-ctl headers bundle`")]
    Damaged { device: String, reason: &'static str },
    #[error(
        "the bundle is for kernel {bundle}, and this is {kernel}; make one from the headers of this kernel"
    )]
    OtherKernel { bundle: String, kernel: String },
    #[error("no room: the headers take {needed} bytes and {entries} inodes, free are {free} and {inodes}")]
    NoRoom { path: &'static str, needed: u64, entries: u64, free: u64, inodes: u64 },
    #[error(
        "the image's own link leads to no headers, and what is the image's is left alone; remove it there"
    )]
    DeadLink { path: String },
}

impl Cause for HeadersError {
    fn errno(&self) -> Option<Errno> {
        match self {
            HeadersError::Call(error) => error.errno(),
            HeadersError::Mount(error) => error.errno(),
            HeadersError::NoRoom { .. } => Some(Errno::ENOSPC),
            HeadersError::Manifest(_)
            | HeadersError::Member(_)
            | HeadersError::Damaged { .. }
            | HeadersError::OtherKernel { .. }
            | HeadersError::DeadLink { .. } => None,
        }
    }

    fn path(&self) -> Option<&str> {
        match self {
            HeadersError::Call(error) => error.path(),
            HeadersError::Mount(error) => error.path(),
            HeadersError::Damaged { device: path, .. } | HeadersError::DeadLink { path } => Some(path),
            HeadersError::NoRoom { path, .. } => Some(path),
            HeadersError::Manifest(_) | HeadersError::Member(_) | HeadersError::OtherKernel { .. } => None,
        }
    }
}
