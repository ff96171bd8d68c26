//! Sending what a sync compares, and the part of it that differs.

use std::os::fd::OwnedFd;

use firstlight_protocol::message::copy::{BadEntry, Totals};
use firstlight_protocol::message::sync::Owner;
use rustix::fs::{OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Outlet, Source};
use crate::error::Error;
use crate::names::{Last, parent_and_last};
use crate::root::{Root, open_inside};

/// Sends the directory at `path` and what is in it for a comparison: every name is a file of its own, and modes are without
/// set-id bits.
///
/// # Errors
/// As [`send`], and `ENOTDIR`.
pub(crate) fn walk(root: &Root, path: &[u8], outlet: &mut dyn Outlet) -> Result<Totals, Error> {
    let mut source = Source::new(path, outlet, None, Some(Owner { uid: 0, gid: 0 }));
    let directory = root.directory(path)?;
    source.visit(&directory, b".", b"")?;
    source.descend()?;
    Ok(source.totals)
}

/// Sends the files of the directory at `path` that `paths` names, in this order, as `owner`'s. Those that are not there are
/// left out; directories come without what is in them.
///
/// # Errors
/// As [`send`], and [`Error::BadEntry`] for a path that is not below the directory. No path leads through a symbolic
/// link.
pub fn send_selected(
    root: &Root,
    path: &[u8],
    paths: impl IntoIterator<Item = Vec<u8>>,
    owner: Owner,
    outlet: &mut dyn Outlet,
) -> Result<Totals, Error> {
    let mut source = Source::new(path, outlet, None, Some(owner));
    let base = root.directory(path)?;
    let mut parent: Option<(Vec<u8>, OwnedFd)> = None;
    for path in paths {
        let (above, Last::Name(name)) = parent_and_last(&path) else {
            return Err(BadEntry { path, reason: "it names no file below the directory" }.into());
        };
        if parent.as_ref().is_none_or(|(known, _)| known != above) {
            let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            match open_inside(&base, above, OFlags::PATH | OFlags::DIRECTORY, inside) {
                Ok(directory) => parent = Some((above.to_vec(), directory)),
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(source.error("open", above)(errno)),
            }
        }
        if let Some((_, directory)) = &parent {
            source.visit(directory, name, &path)?;
            source.open.clear();
        }
    }
    Ok(source.totals)
}

#[cfg(test)]
mod tests {
    use super::super::{BorrowedFd, Entry, Extent, Reading};
    use super::*;
    use firstlight_protocol::message::file::Place;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    /// Keeps the paths and owners of entries.
    #[derive(Default)]
    struct Kept(Vec<(String, Owner, u32)>);

    impl Outlet for Kept {
        fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
            let path = String::from_utf8(entry.path.clone()).unwrap();
            self.0.push((path, Owner { uid: entry.uid, gid: entry.gid }, entry.mode));
            Ok(())
        }

        fn extent(&mut self, _: BorrowedFd<'_>, _: Extent) -> Result<(), Reading> {
            Ok(())
        }
    }

    fn selected(base: &Path, paths: &[&str]) -> Result<Vec<(String, Owner, u32)>, Error> {
        let path = base.as_os_str().as_bytes();
        let paths = paths.iter().map(|path| path.as_bytes().to_vec());
        let mut kept = Kept::default();
        let root = Root::open(&Place::new(path))?;
        send_selected(&root, path, paths, Owner { uid: 7, gid: 8 }, &mut kept)?;
        Ok(kept.0)
    }

    #[test]
    fn only_what_is_selected_is_sent_in_that_order_and_as_someone_else_s() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        for name in ["a/1", "a/2", "a/b/3"] {
            fs::write(dir.path().join(name), "x").unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(0o6711)).unwrap();
        }
        fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o1777)).unwrap();
        let found = selected(dir.path(), &["a", "a/b/3", "gone", "gone/too", "a/1"]).unwrap();
        let owner = Owner { uid: 7, gid: 8 };
        let expected = [("a", 0o1777), ("a/b/3", 0o711), ("a/1", 0o711)];
        assert_eq!(found, expected.map(|(path, mode)| (path.to_owned(), owner, mode)));
    }

    #[test]
    fn a_selection_never_leaves_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        fs::create_dir(&base).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        symlink("..", base.join("up")).unwrap();
        for path in ["../secret", "/secret", "up/secret", "", ".."] {
            assert!(selected(&base, &[path]).is_err(), "{path:?}");
        }
    }
}
