//! A directory that nobody sees: one that is prepared before it gets its name, or taken apart after it lost it.
//!
//! ```text
//!  make: mkdir ─► lock ─► files ─► rename to its name          remove: rename away ─► files ─► lock ─► rmdir
//! ```
//!
//! Its process holds the lock in it and may be killed at any instant, so the lock is the first file and the last one:
//! a directory without one is empty, and one whose lock nobody holds was left behind. [`sweep`] takes both away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use firstlight_protocol::hex;

use super::lock::Lock;
use super::store::{StoreError, failed, make_private_dir};

/// What the names of hidden directories begin with; no VM's and no snapshot's can.
const HIDDEN: &str = ".";

/// How often a new directory is tried, or the removal of one, before giving up; the second try succeeds unless somebody
/// comes in between again.
const ATTEMPTS: u32 = 8;

/// A hidden directory with its lock. Dropping it removes it with its files, unless it was [shown](HiddenDir::show).
#[derive(Debug)]
pub(crate) struct HiddenDir {
    path: PathBuf,
    lock_name: &'static str,
    /// `None` once it is shown.
    lock: Option<Lock>,
}

impl HiddenDir {
    /// Makes one in `parent` that is to be called `name`, with the lock `lock_name` in it.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub(crate) fn make(parent: &Path, name: &str, lock_name: &'static str) -> Result<HiddenDir, StoreError> {
        for _ in 0..ATTEMPTS {
            let path = hidden(&parent.join(name))?;
            make_private_dir(&path)?;
            let lock = path.join(lock_name);
            match Lock::try_take(&lock) {
                Ok(Some(lock)) => return Ok(HiddenDir { path, lock_name, lock: Some(lock) }),
                // A sweep came before the lock, and takes the directory away.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(failed("lock", &lock, source)),
            }
        }
        Err(failed("lock a new directory in", parent, io::ErrorKind::ResourceBusy.into()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the directory its name and lets go of the lock.
    ///
    /// # Errors
    /// Those of `rename(2)`; the directory is removed then.
    pub(crate) fn show(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.lock = None;
        Ok(())
    }
}

impl Drop for HiddenDir {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // What cannot be removed now is swept up later.
            let _ = take_apart(&self.path, self.lock_name);
        }
    }
}

/// Removes the directory `path`, whose lock `lock_name` the caller holds: gone for everybody at once, its files after
/// that.
///
/// # Errors
/// [`StoreError::Io`], with [`io::ErrorKind::NotFound`] when there is none.
pub(crate) fn remove(path: &Path, lock_name: &str, _held: &Lock) -> Result<(), StoreError> {
    let hidden = hidden(path)?;
    fs::rename(path, &hidden).map_err(|source| failed("remove", path, source))?;
    take_apart(&hidden, lock_name).map_err(|source| failed("remove", &hidden, source))
}

/// Removes the hidden directories in `parent` whose process is gone. What cannot be removed harms nobody and is tried
/// again next time.
pub(crate) fn sweep(parent: &Path, lock_name: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_str().is_some_and(|name| name.starts_with(HIDDEN)) {
            continue;
        }
        let lock = entry.path().join(lock_name);
        if !lock.exists() {
            // It is empty. One that is made this very instant is made again elsewhere.
            let _ = fs::remove_dir(entry.path());
        } else if let Ok(Some(_held)) = Lock::try_take(&lock) {
            let _ = take_apart(&entry.path(), lock_name);
        }
    }
}

/// A new name beside `path` that no listing shows.
fn hidden(path: &Path) -> Result<PathBuf, StoreError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let random = crate::random::bytes::<6>().map_err(|source| failed("name", path, source))?;
    Ok(path.with_file_name(format!("{HIDDEN}{name}.{}", hex::encode(&random))))
}

/// Removes all files, the lock last.
fn take_apart(path: &Path, lock_name: &str) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == lock_name {
            continue;
        }
        let is_dir = entry.file_type()?.is_dir();
        let path = entry.path();
        unless_gone(if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) })?;
    }
    let mut removed = Ok(());
    for _ in 0..ATTEMPTS {
        unless_gone(fs::remove_file(path.join(lock_name)))?;
        // A sweep may have found it empty meanwhile.
        removed = unless_gone(fs::remove_dir(path));
        // Whoever wanted the lock when the directory still had its name may have made another in it; that one locks nothing.
        if !removed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::DirectoryNotEmpty) {
            break;
        }
    }
    removed
}

fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "lock";

    fn count(parent: &Path) -> usize {
        fs::read_dir(parent).unwrap().count()
    }

    #[test]
    fn whatever_a_killed_process_left_is_swept_and_what_is_worked_on_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let working = HiddenDir::make(parent.path(), "working", LOCK).unwrap();
        // Killed before it had its lock, while it had files, and while it took them away.
        fs::create_dir(parent.path().join(".unlocked.1")).unwrap();
        let filled = parent.path().join(".filled.2");
        fs::create_dir_all(filled.join("disks")).unwrap();
        fs::write(filled.join("disks/root"), "x").unwrap();
        fs::write(filled.join(LOCK), "").unwrap();
        sweep(parent.path(), LOCK);
        assert_eq!(count(parent.path()), 1);
        assert!(working.path().join(LOCK).exists());
    }

    #[test]
    fn the_lock_goes_last() {
        use std::mem::MaybeUninit;

        use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};

        let parent = tempfile::tempdir().unwrap();
        let dir = HiddenDir::make(parent.path(), "web", LOCK).unwrap();
        fs::create_dir_all(dir.path().join("disks/old")).unwrap();
        for name in 0..64 {
            fs::write(dir.path().join(name.to_string()), "").unwrap();
        }
        let removals = init(CreateFlags::NONBLOCK).unwrap();
        add_watch(&removals, dir.path(), WatchFlags::DELETE).unwrap();
        drop(dir);
        let mut buffer = [MaybeUninit::uninit(); 8192];
        let mut reader = Reader::new(removals, &mut buffer);
        let mut removed = Vec::new();
        while let Ok(event) = reader.next() {
            removed.extend(event.file_name().map(|name| name.to_str().unwrap().to_owned()));
        }
        assert_eq!(removed.len(), 66);
        assert_eq!(removed.last().unwrap(), LOCK);
        assert_eq!(count(parent.path()), 0);
    }
}
