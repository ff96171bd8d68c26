//! The `newc` cpio format, as the kernel's unpacker reads it.
//!
//! ```text
//! 070701 + 13 fields of 8 hexadecimal digits │ name, NUL │ pad to 4 │ contents │ pad to 4 │ next header ...
//! ```
//!
//! Sources: `Documentation/driver-api/early-userspace/buffer-format.rst` and `init/initramfs.c` of Linux. The unpacker
//! skips in silence what it does not like, such as a name over `PATH_MAX` or a file whose directory is missing.
//! Here each of these is an error or cannot happen.

mod entry;

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use entry::{Access, EntryError, Kind};

use crate::Error;

/// Finished archives end on a multiple of this, so that the next one appended starts aligned. The kernel needs 4;
/// 512 is what `cpio(1)` writes.
const BLOCK: usize = 512;

/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// An archive being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<PathBuf>,
    others: BTreeSet<PathBuf>,
}

impl Archive {
    /// An archive with nothing in it.
    #[must_use]
    pub fn new() -> Archive {
        Archive::default()
    }

    /// Adds a directory. One that was made for an entry below it is given this access instead.
    ///
    /// # Errors
    /// [`Error::Entry`], as for [`Archive::add`].
    pub fn directory(&mut self, path: impl AsRef<Path>, mode: u32) -> Result<(), Error> {
        self.add(path, Access::root(mode), Kind::Directory)
    }

    /// Adds a regular file.
    ///
    /// # Errors
    /// [`Error::Entry`], as for [`Archive::add`].
    pub fn file(&mut self, path: impl AsRef<Path>, mode: u32, contents: &[u8]) -> Result<(), Error> {
        self.add(path, Access::root(mode), Kind::File(contents))
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// [`Error::Entry`], as for [`Archive::add`].
    pub fn symlink(&mut self, path: impl AsRef<Path>, target: impl AsRef<Path>) -> Result<(), Error> {
        self.add(path, Access::root(0o777), Kind::Symlink(target.as_ref()))
    }

    /// Adds an entry at an absolute path of the guest, and before it the directories above it that are not in the
    /// archive yet (root's, mode 0755).
    ///
    /// # Errors
    /// [`Error::Entry`] when the path or the contents do not fit the format, or the path is taken.
    pub fn add(&mut self, path: impl AsRef<Path>, access: Access, kind: Kind<'_>) -> Result<(), Error> {
        let path = path.as_ref();
        let entry_error = |source| Error::Entry { path: path.to_owned(), source };
        let name = entry::guest_name(path).map_err(entry_error)?;
        entry::check_contents(kind).map_err(entry_error)?;
        for directory in missing_parents(&name, &self.directories) {
            self.claim(&directory, Kind::Directory).map_err(entry_error)?;
            self.write(&directory, Access::root(0o755), Kind::Directory);
        }
        self.claim(&name, kind).map_err(entry_error)?;
        self.write(&name, access, kind);
        Ok(())
    }

    /// Ends the archive and gives its bytes, ready to have another archive appended.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.write_header(TRAILER.as_bytes(), 0, Access::root(0), 0, (0, 0));
        self.pad_to(BLOCK);
        self.bytes
    }

    /// Takes `name` for an entry. A directory may be said twice: the kernel then sets the second one's access.
    fn claim(&mut self, name: &Path, kind: Kind<'_>) -> Result<(), EntryError> {
        let free = match kind {
            Kind::Directory => !self.others.contains(name),
            Kind::File(_)
            | Kind::Symlink(_)
            | Kind::CharDevice { .. }
            | Kind::BlockDevice { .. }
            | Kind::Fifo
            | Kind::Socket => !self.directories.contains(name) && self.others.insert(name.to_owned()),
        };
        if !free {
            return Err(EntryError::Duplicate);
        }
        if kind == Kind::Directory {
            self.directories.insert(name.to_owned());
        }
        Ok(())
    }

    fn write(&mut self, name: &Path, access: Access, kind: Kind<'_>) {
        let contents = kind.contents();
        let mode = Access { mode: kind.type_bits() | (access.mode & 0o7777), ..access };
        // `entry::check_contents` has refused what does not fit.
        let length = u32::try_from(contents.len()).unwrap_or(u32::MAX);
        self.entries += 1;
        self.write_header(name.as_os_str().as_bytes(), self.entries, mode, length, kind.device());
        self.bytes.extend_from_slice(contents);
        self.pad_to(4);
    }

    /// Writes header and name. Everything has one link and its own inode number, so nothing is taken for a hard
    /// link, neither inside an archive nor across two.
    fn write_header(&mut self, name: &[u8], inode: u32, access: Access, length: u32, device: (u32, u32)) {
        let name_length = u32::try_from(name.len() + 1).unwrap_or(u32::MAX);
        let (links, mtime, check) = (1, 0, 0);
        let (major, minor) = device;
        let fields = [
            inode,
            access.mode,
            access.uid,
            access.gid,
            links,
            mtime,
            length,
            0,
            0,
            major,
            minor,
            name_length,
            check,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.pad_to(4);
    }

    fn pad_to(&mut self, alignment: usize) {
        let length = self.bytes.len().next_multiple_of(alignment);
        self.bytes.resize(length, 0);
    }
}

/// The directories above `name` that are not `known`, outermost first.
fn missing_parents(name: &Path, known: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> = name
        .ancestors()
        .skip(1)
        .filter(|parent| !parent.as_os_str().is_empty())
        .take_while(|parent| !known.contains(*parent))
        .map(Path::to_owned)
        .collect();
    missing.reverse();
    missing
}

#[cfg(test)]
pub(crate) mod reader;
#[cfg(test)]
mod tests;
