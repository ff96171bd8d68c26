//! What is left of a sync when all files have arrived: removing what is too much, and setting modes and times.

use std::os::fd::{AsFd, OwnedFd};

use firstlight_protocol::message::sync::{Adjustment, AmendRequest, Removal};
use rustix::fs::{AtFlags, OFlags, ResolveFlags, unlinkat};
use rustix::io::Errno;

use crate::error::Error;
use crate::metadata::set_mode_and_time;
use crate::names::{Last, join, parent_and_last};
use crate::root::{Root, open_inside};

/// No path of a sync leads through a symbolic link: what is in a linked directory belongs to another tree.
const STRICT: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// Does what a request says, and counts what it removed. What is gone already was to go anyhow.
///
/// # Errors
/// [`Error`] with the first path that stops it.
pub fn amend(request: &AmendRequest) -> Result<u64, Error> {
    let path = &request.place.path;
    let base = Root::open(&request.place)?.directory(path)?;
    let mut removed = 0;
    for removal in &request.remove {
        removed +=
            u64::from(remove(&base, removal).map_err(Error::system("remove", &join(path, &removal.path)))?);
    }
    for adjustment in &request.adjust {
        adjust(&base, adjustment).map_err(Error::system("chmod", &join(path, &adjustment.path)))?;
    }
    Ok(removed)
}

fn remove(base: &OwnedFd, removal: &Removal) -> Result<bool, Errno> {
    let (parent, Last::Name(name)) = parent_and_last(&removal.path) else { return Err(Errno::INVAL) };
    let flags = if removal.directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    let removed = open_inside(base, parent, OFlags::PATH | OFlags::DIRECTORY, STRICT)
        .and_then(|parent| unlinkat(&parent, name, flags));
    match removed {
        Ok(()) => Ok(true),
        // Not empty is one that holds what was excluded, or what came meanwhile.
        Err(Errno::NOENT | Errno::NOTEMPTY) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn adjust(base: &OwnedFd, adjustment: &Adjustment) -> Result<(), Errno> {
    let set = |file: OwnedFd| set_mode_and_time(file.as_fd(), adjustment.mode, adjustment.modified);
    // Should it be a pipe by now, opening it must not wait for a writer.
    match open_inside(base, &adjustment.path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK, STRICT) {
        Err(Errno::NOENT) => Ok(()),
        opened => opened.and_then(set),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_protocol::message::file::{Place, Timestamp};
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::Path;

    fn removal(path: &str, directory: bool) -> Removal {
        Removal { path: path.into(), directory }
    }

    fn request(base: &Path, remove: &[Removal], adjust: &[Adjustment]) -> AmendRequest {
        let place = Place::new(base.as_os_str().as_bytes());
        AmendRequest { place, remove: remove.to_vec(), adjust: adjust.to_vec() }
    }

    #[test]
    fn what_is_named_goes_and_a_directory_that_is_not_empty_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), "").unwrap();
        fs::write(dir.path().join("a/excluded"), "").unwrap();
        let remove =
            [removal("a/b/file", false), removal("a/b", true), removal("a", true), removal("gone", false)];
        assert_eq!(amend(&request(dir.path(), &remove, &[])), Ok(2));
        assert!(dir.path().join("a/excluded").exists());
        assert!(!dir.path().join("a/b").exists());
    }

    #[test]
    fn nothing_outside_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        fs::create_dir(&base).unwrap();
        fs::write(dir.path().join("precious"), "").unwrap();
        symlink("..", base.join("up")).unwrap();
        let modified = Timestamp { seconds: 1, nanos: 0 };
        for path in ["../precious", "up/precious", "/precious"] {
            assert!(amend(&request(&base, &[removal(path, false)], &[])).is_err(), "{path}");
            let adjust = Adjustment { path: path.into(), mode: 0o777, modified };
            assert!(amend(&request(&base, &[], &[adjust])).is_err(), "{path}");
        }
        let metadata = fs::metadata(dir.path().join("precious")).unwrap();
        assert_ne!((metadata.mtime(), metadata.permissions().mode() & 0o777), (1, 0o777));
    }

    #[test]
    fn modes_and_times_are_set_and_set_id_bits_never() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let modified = Timestamp { seconds: 1_500_000_000, nanos: 42 };
        let adjust = ["", "file"].map(|path| Adjustment { path: path.into(), mode: 0o6750, modified });
        amend(&request(dir.path(), &[], &adjust)).unwrap();
        for path in [dir.path().to_owned(), dir.path().join("file")] {
            let metadata = fs::metadata(path).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o7777, 0o750);
            assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_500_000_000, 42));
        }
    }
}
