//! Why a bundle cannot be made or used.

use std::io;
use std::path::{Path, PathBuf};

use firstlight_protocol::headers::{EntryError, ManifestError};

/// A headers bundle cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum HeadersError {
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
    /// The file is nothing headers can be taken from.
    #[error("{} is neither a Debian package nor a directory", .path.display())]
    Unrecognized {
        /// The file.
        path: PathBuf,
    },
    /// The directory has no headers in it.
    #[error("{} is neither a kernel's build tree (with Makefile and include/) nor a root with lib/modules/RELEASE/build",
        .path.display())]
    NoHeaders {
        /// The directory.
        path: PathBuf,
    },
    /// A package is damaged, or holds what no headers need.
    #[error("{}: {reason}", .path.display())]
    Package {
        /// The package.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is not exactly one kernel in the sources.
    #[error(
        "the sources hold no lib/modules/RELEASE/build that leads to headers; give the package that is named \
        linux-headers-RELEASE, with those it depends on"
    )]
    NoKernel,
    /// There is more than one.
    #[error("the sources hold headers of several kernels: {releases}; a bundle is for one")]
    SeveralKernels {
        /// Their releases.
        releases: String,
    },
    /// Something the headers need is in none of the sources.
    #[error(
        "{what} needs /{needed}, which is in none of the sources; give the package that holds it as well"
    )]
    Incomplete {
        /// What needs it.
        what: String,
        /// What is missing, as a path in a root.
        needed: String,
    },
    /// The build tree lacks what says which kernel it is for.
    #[error(
        "/{build}: no {file} says which kernel these headers are for; prepare the tree with \
        `make modules_prepare`"
    )]
    Unprepared {
        /// The build tree.
        build: String,
        /// The file.
        file: &'static str,
    },
    /// Something cannot be put into a bundle.
    #[error(transparent)]
    Member(#[from] EntryError),
    /// A bundle's manifest cannot be used.
    #[error("{}: {source}", .path.display())]
    Manifest {
        /// The bundle.
        path: PathBuf,
        /// Why.
        source: ManifestError,
    },
    /// A file is no whole bundle.
    #[error("{} is no headers bundle: {reason}; make one with `host-ctl headers bundle`", .path.display())]
    NoBundle {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl HeadersError {
    pub(super) fn io(operation: &'static str, path: &Path, source: io::Error) -> HeadersError {
        HeadersError::Io { operation, path: path.to_owned(), source }
    }
}
