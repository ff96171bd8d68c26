//! Why a root file system or a disk cannot be used.

use std::io;
use std::path::{Path, PathBuf};

/// A root file system or a disk image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
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
    /// The file is nothing a root can be made from.
    #[error("{} is neither a directory, a tar archive nor an ext4, erofs or squashfs image", .path.display())]
    Unrecognized {
        /// The file.
        path: PathBuf,
    },
    /// The file holds no file system a guest can mount.
    #[error("{} holds no ext4, erofs or squashfs file system; make one, for example with `mkfs.ext4 {}`",
        .path.display(), .path.display())]
    NoFileSystem {
        /// The file.
        path: PathBuf,
    },
    /// An archive wants to write outside of its root.
    #[error("{}: entry {entry:?} would leave the root file system; it is refused", .archive.display())]
    Escapes {
        /// The archive.
        archive: PathBuf,
        /// The entry.
        entry: String,
    },
    /// An archive is damaged.
    #[error("{}: {reason}", .archive.display())]
    Archive {
        /// The archive.
        archive: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tool that makes images is not installed.
    #[error("cannot find mkfs.erofs, which makes an image of {}; install erofs-utils, or give --rootfs an image",
        .path.display())]
    NoTool {
        /// The directory.
        path: PathBuf,
    },
    /// The tool that makes images failed.
    #[error("mkfs.erofs cannot make an image of {}: {reason}", .path.display())]
    Tool {
        /// The directory.
        path: PathBuf,
        /// Its last words.
        reason: String,
    },
}

impl ImageError {
    pub(super) fn io(operation: &'static str, path: &Path, source: io::Error) -> ImageError {
        ImageError::Io { operation, path: path.to_owned(), source }
    }
}
