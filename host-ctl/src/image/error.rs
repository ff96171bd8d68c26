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
    /// An ext4 image cannot be read.
    #[error("cannot read {file} of {}: {source}", .image.display())]
    Ext4 {
        /// The image.
        image: PathBuf,
        /// The file in it.
        file: String,
        /// Why.
        source: ext4_view::Ext4Error,
    },
    /// What is to be baked is neither a directory nor an ext4 image.
    #[error("{} is neither a directory nor an ext4 image, and nothing else can be written to", .path.display())]
    NotBakeable {
        /// The file.
        path: PathBuf,
    },
    /// An image was not unmounted.
    #[error("{} was not unmounted, or still is mounted; end what uses it, or run: e2fsck -p {}",
        .path.display(), .path.display())]
    NotClean {
        /// The image.
        path: PathBuf,
    },
    /// There is no systemd to bake for.
    #[error("{} has no systemd, and nothing else can start the agent in it", .path.display())]
    NoSystemd {
        /// The image.
        path: PathBuf,
    },
    /// An image is to boot by itself and was not prepared for it.
    #[error("{} is not baked; run: host-ctl image bake {}", .path.display(), .path.display())]
    NotBaked {
        /// The image.
        path: PathBuf,
    },
    /// An image is to boot by itself and has nothing to boot.
    #[error("{} has no {what} in /boot; install the distribution's kernel in it, or name one with --{what}",
        .path.display())]
    NoKernel {
        /// The image.
        path: PathBuf,
        /// `kernel` or `initrd`.
        what: &'static str,
    },
    /// A file could not be put into an image; the image is as it was.
    #[error("debugfs cannot put {file} into {}: {reason}", .image.display())]
    NotWritten {
        /// The image.
        image: PathBuf,
        /// The file.
        file: String,
        /// What it said.
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
