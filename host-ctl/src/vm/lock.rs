//! The lock that says a monitor, or a removal, owns a VM.
//!
//! An open-file-description lock: it goes with the process that holds it, however that ends, and can be looked at
//! without being taken. Source: `fcntl(2)`, `F_OFD_SETLK`.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use tokio::time::{Duration, Instant};

use crate::backoff::{Attempt, jitter, retry};

/// How long [`Lock::take`] waits.
const DEADLINE: Duration = Duration::from_secs(60);

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock on `path`, making the file if there is none; `None` when somebody else holds it.
    ///
    /// # Errors
    /// The file cannot be opened or locked. It is a [`io::ErrorKind::NotFound`] too when the file was removed between
    /// both: that lock would keep nobody out.
    pub fn try_take(path: &Path) -> io::Result<Option<Lock>> {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&whole_file())) {
            Ok(_) if is_at(&file, path)? => Ok(Some(Lock { _file: file })),
            Ok(_) => Err(io::ErrorKind::NotFound.into()),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the lock on `path` as soon as nobody holds it.
    ///
    /// # Errors
    /// As [`Lock::try_take`], or [`io::ErrorKind::TimedOut`] when somebody holds it for longer than a minute.
    pub async fn take(path: &Path) -> io::Result<Lock> {
        retry(Instant::now() + DEADLINE, jitter, async || match Lock::try_take(path) {
            Ok(Some(lock)) => Attempt::Done(Ok(lock)),
            Ok(None) => Attempt::NotYet(io::Error::from(io::ErrorKind::TimedOut)),
            Err(error) => Attempt::Done(Err(error)),
        })
        .await?
    }

    /// Whether anybody holds the lock on `path`. Looking does not disturb one who is about to take it.
    ///
    /// # Errors
    /// The file cannot be opened or looked at. A missing one is nobody's.
    pub fn is_held(path: &Path) -> io::Result<bool> {
        let file = match File::options().write(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut lock = whole_file();
        fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))?;
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    }
}

/// Whether the open file is still the one that the path leads to.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (open, named) = (file.metadata()?, path.metadata()?);
    Ok((open.dev(), open.ino()) == (named.dev(), named.ino()))
}

fn whole_file() -> libc::flock {
    #[allow(clippy::cast_possible_truncation, reason = "constants of the kernel that fit their field")]
    let (write_lock, from_start) = (libc::F_WRLCK as libc::c_short, libc::SEEK_SET as libc::c_short);
    // A length of zero is up to the end, wherever that is; `l_pid` has to be zero for these commands.
    libc::flock { l_type: write_lock, l_whence: from_start, l_start: 0, l_len: 0, l_pid: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it_and_all_see_that() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!Lock::is_held(&path).unwrap());
        let held = Lock::try_take(&path).unwrap();
        assert!(held.is_some());
        assert!(Lock::try_take(&path).unwrap().is_none());
        assert!(Lock::is_held(&path).unwrap());
        drop(held);
        assert!(!Lock::is_held(&path).unwrap());
        assert!(Lock::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn a_file_that_was_replaced_is_not_the_one_that_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let before = File::create(&path).unwrap();
        assert!(is_at(&before, &path).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(is_at(&before, &path).unwrap_err().kind(), io::ErrorKind::NotFound);
        // Another inode, since the first is still open.
        File::create(&path).unwrap();
        assert!(!is_at(&before, &path).unwrap());
    }
}
