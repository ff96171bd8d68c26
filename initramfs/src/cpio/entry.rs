//! What an archive holds, and what it cannot hold.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Longest name and longest symlink target in bytes, with the final NUL. Source: `PATH_MAX` in `linux/limits.h`.
const PATH_MAX: usize = 4096;

/// Longest component of a name in bytes. Source: `NAME_MAX` in `linux/limits.h`.
pub(super) const NAME_MAX: usize = 255;

/// Why an archive cannot hold an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The path is not absolute, is the root itself, or has a `..` in it.
    #[error("the path has to be absolute, without `..`, and below `/`")]
    Path,
    /// The path or the target of a symlink has a NUL byte in it.
    #[error("there is a NUL byte in its path or target")]
    Nul,
    /// A path or the target of a symlink is longer than the kernel unpacks.
    #[error("a name of {bytes} bytes is over the kernel's limit of {limit}")]
    NameTooLong {
        /// Its length.
        bytes: usize,
        /// The limit it is over.
        limit: usize,
    },
    /// The contents do not fit the format's 32-bit length.
    #[error("its {bytes} bytes are over the format's limit of 4 GiB")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The archive has an entry at this path already.
    #[error("the archive has this path already")]
    Duplicate,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A directory.
    Directory,
    /// A regular file with these contents.
    File(&'a [u8]),
    /// A symbolic link to this target.
    Symlink(&'a Path),
    /// A character device.
    CharDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A unix socket.
    Socket,
}

impl Kind<'_> {
    /// The type's bits of a mode. Source: `inode(7)`.
    pub(super) fn type_bits(self) -> u32 {
        match self {
            Kind::Fifo => 0o010_000,
            Kind::CharDevice { .. } => 0o020_000,
            Kind::Directory => 0o040_000,
            Kind::BlockDevice { .. } => 0o060_000,
            Kind::File(_) => 0o100_000,
            Kind::Symlink(_) => 0o120_000,
            Kind::Socket => 0o140_000,
        }
    }

    pub(super) fn contents(&self) -> &[u8] {
        match self {
            Kind::File(contents) => contents,
            Kind::Symlink(target) => target.as_os_str().as_bytes(),
            Kind::Directory
            | Kind::CharDevice { .. }
            | Kind::BlockDevice { .. }
            | Kind::Fifo
            | Kind::Socket => &[],
        }
    }

    pub(super) fn device(self) -> (u32, u32) {
        match self {
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => (major, minor),
            Kind::Directory | Kind::File(_) | Kind::Symlink(_) | Kind::Fifo | Kind::Socket => (0, 0),
        }
    }
}

/// Who owns an entry, and what they may do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Permission bits, with set-id and sticky: the low twelve bits of a mode.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Access {
    /// Owned by root, with these permission bits.
    #[must_use]
    pub fn root(mode: u32) -> Access {
        Access { mode, uid: 0, gid: 0 }
    }
}

/// The name in the archive of a path in the guest: the same without the `/` it starts with.
pub(super) fn guest_name(path: &Path) -> Result<PathBuf, EntryError> {
    let mut components = path.components();
    if components.next() != Some(Component::RootDir) {
        return Err(EntryError::Path);
    }
    let name = components.as_path();
    for component in components {
        let Component::Normal(component) = component else { return Err(EntryError::Path) };
        check_length(component.len(), NAME_MAX)?;
    }
    if name.as_os_str().is_empty() {
        return Err(EntryError::Path);
    }
    check_text(name)?;
    // `components` drops doubled slashes and inner dots, which `as_path` would keep.
    Ok(name.components().collect())
}

pub(super) fn check_contents(kind: Kind<'_>) -> Result<(), EntryError> {
    match kind {
        Kind::Symlink(target) => check_text(target),
        Kind::File(contents) if u32::try_from(contents.len()).is_err() => {
            Err(EntryError::TooLarge { bytes: contents.len() })
        }
        Kind::File(_)
        | Kind::Directory
        | Kind::CharDevice { .. }
        | Kind::BlockDevice { .. }
        | Kind::Fifo
        | Kind::Socket => Ok(()),
    }
}

fn check_text(text: &Path) -> Result<(), EntryError> {
    let bytes = text.as_os_str().as_bytes();
    if bytes.contains(&0) {
        return Err(EntryError::Nul);
    }
    check_length(bytes.len() + 1, PATH_MAX)
}

fn check_length(bytes: usize, limit: usize) -> Result<(), EntryError> {
    if bytes > limit { Err(EntryError::NameTooLong { bytes, limit }) } else { Ok(()) }
}
