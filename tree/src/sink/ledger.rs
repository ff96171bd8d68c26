//! Temporary names, written down where the next process finds them.
//!
//! A process that is killed cannot take back what it has not shown yet. Where it keeps a ledger, on a file system that lasts as
//! long as the machine runs, the process that takes its place does: each temporary name is a symbolic link in
//! the ledger to the directory it is in, made before it and removed after it.

use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use firstlight_protocol::message::file::FileKind;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, mkdirat, openat, readlinkat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::publish::is_temporary;
use crate::error::Error;
use crate::remove::remove_tree;
use crate::root::kind_at;

/// Where temporary names are written down, or nowhere.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Option<Arc<Directory>>);

/// The ledger's directory. It is made when there is something to write down, which on most days is never.
#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// `None` inside when it could be neither made nor opened.
    open: OnceLock<Option<OwnedFd>>,
}

/// A name that is written down, until this is dropped.
#[derive(Debug)]
pub(super) struct Note {
    ledger: Ledger,
    name: Vec<u8>,
}

impl Ledger {
    /// A ledger in this directory.
    #[must_use]
    pub fn new(path: PathBuf) -> Ledger {
        Ledger(Some(Arc::new(Directory { path, open: OnceLock::new() })))
    }

    /// The names that an earlier process left. They are read at once; what this process writes down later is not among
    /// them.
    ///
    /// # Errors
    /// When the ledger is there and cannot be read.
    pub fn leftovers(&self) -> Result<Leftovers, Error> {
        let Some(directory) = &self.0 else { return Ok(Leftovers::default()) };
        let failed = Error::system("open", directory.path.as_os_str().as_bytes());
        let ledger = match open(&directory.path) {
            Err(Errno::NOENT) => return Ok(Leftovers::default()),
            opened => opened.map_err(failed)?,
        };
        let failed = Error::system("list", directory.path.as_os_str().as_bytes());
        let names = temporary_links(&ledger).map_err(failed)?;
        Ok(Leftovers { ledger: Some(ledger), names })
    }

    /// Writes a name down. A ledger that takes no more only means that a kill now would leave the name behind.
    pub(super) fn note(&self, directory: impl AsFd, name: &[u8]) -> Note {
        if let Some(ledger) = self.directory() {
            let link = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
            let path = readlinkat(CWD, link.as_str(), Vec::new());
            let _ = path.and_then(|path| symlinkat(path, ledger, name));
        }
        Note { ledger: self.clone(), name: name.to_vec() }
    }

    fn directory(&self) -> Option<&OwnedFd> {
        let Directory { path, open: opened } = self.0.as_deref()?;
        let make = || match mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => open(path).ok(),
            Err(_) => None,
        };
        opened.get_or_init(make).as_ref()
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
}

fn temporary_links(ledger: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(ledger)? {
        let entry = entry?;
        if entry.file_type() == FileType::Symlink && is_temporary(entry.file_name().to_bytes()) {
            names.push(entry.file_name().to_bytes().to_vec());
        }
    }
    Ok(names)
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Some(ledger) = self.ledger.directory() {
            let _ = unlinkat(ledger, self.name.as_slice(), AtFlags::empty());
        }
    }
}

/// What an earlier process left.
#[derive(Debug, Default)]
pub struct Leftovers {
    ledger: Option<OwnedFd>,
    names: Vec<Vec<u8>>,
}

impl Leftovers {
    /// Whether there is nothing to remove.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Removes all of it, as well as can be: what cannot be removed now stays written down.
    pub fn remove(self) {
        let Some(ledger) = &self.ledger else { return };
        for name in &self.names {
            if remove_leftover(ledger, name).is_ok() {
                let _ = unlinkat(ledger, name.as_slice(), AtFlags::empty());
            }
        }
    }
}

fn remove_leftover(ledger: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let path = readlinkat(ledger, name, Vec::new())?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match openat(CWD, path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        directory => directory?,
    };
    match kind_at(&directory, name)? {
        None => Ok(()),
        Some(FileKind::Directory) => remove_tree(&directory, name),
        Some(_) => unlinkat(&directory, name, AtFlags::empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(directory.path().join("ledger"));
        let place = directory.path().join("place");
        let (file, tree) = (".firstlight-1-1.part", ".firstlight-1-2.part");
        fs::create_dir_all(place.join(tree).join("sub")).unwrap();
        for name in [file, "kept", ".firstlight-1-3.part"] {
            fs::write(place.join(name), "").unwrap();
        }
        let open = File::open(&place).unwrap();
        // Not dropped, as when the process is killed.
        for name in [file, tree] {
            std::mem::forget(ledger.note(&open, name.as_bytes()));
        }
        drop(ledger.note(&open, b".firstlight-1-3.part"));
        ledger.leftovers().unwrap().remove();
        let mut left: Vec<_> =
            fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".firstlight-1-3.part", "kept"]);
        assert_eq!(fs::read_dir(directory.path().join("ledger")).unwrap().count(), 0);
    }

    #[test]
    fn a_name_written_down_later_is_no_leftover() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(directory.path().join("ledger"));
        drop(ledger.note(File::open(directory.path()).unwrap(), b".firstlight-2-0.part"));
        let leftovers = ledger.leftovers().unwrap();
        let name = ".firstlight-2-1.part";
        fs::write(directory.path().join(name), "").unwrap();
        let _note = ledger.note(File::open(directory.path()).unwrap(), name.as_bytes());
        leftovers.remove();
        assert!(directory.path().join(name).exists());
    }
}
