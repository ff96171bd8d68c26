//! Paths that stay inside a directory.
//!
//! `openat2(2)` with `RESOLVE_IN_ROOT` resolves a path as if after a `chroot(2)`, in one system call, so nobody can swap a
//! directory for a symbolic link between a check and a use. What is done to a *name* is done relative to the
//! descriptor of its directory, without following the name itself.

use std::os::fd::{AsFd, OwnedFd};

use firstlight_protocol::message::copy::MAX_PATH;
use firstlight_protocol::message::file::{FileKind, Place};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, openat2, readlinkat, statat};
use rustix::io::Errno;

use crate::error::Error;
use crate::metadata::kind_of;
use crate::names::{Last, parent_and_last};

/// `openat2(2)` gives EAGAIN when a rename elsewhere may have moved what it walks through. More than this in a row is a
/// guest that renames for the sake of it.
const ATTEMPTS: usize = 32;

/// Symbolic links followed one after the other before it must be a loop, as the kernel has it (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// A directory that paths cannot leave.
#[derive(Debug)]
pub struct Root {
    directory: OwnedFd,
}

/// A name that may or may not exist, in a directory that does.
#[derive(Debug)]
pub struct Slot {
    /// The directory.
    pub directory: OwnedFd,
    /// The name in it.
    pub name: Vec<u8>,
    /// What has the name now.
    pub kind: Option<FileKind>,
    /// The path that was asked for, for errors.
    pub path: Vec<u8>,
}

impl Root {
    /// Opens the root directory of a place.
    ///
    /// # Errors
    /// When it cannot be opened, or is no directory.
    pub fn open(place: &Place) -> Result<Root, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(CWD, place.root.as_slice(), flags, Mode::empty());
        Ok(Root { directory: directory.map_err(Error::system("open", &place.root))? })
    }

    /// Opens what `path` is, through symbolic links, the last one too.
    ///
    /// # Errors
    /// As `openat2(2)`.
    pub fn follow(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Error> {
        open_inside(&self.directory, path, flags, ResolveFlags::IN_ROOT).map_err(Error::system("open", path))
    }

    /// Opens a directory to work in.
    ///
    /// # Errors
    /// As `openat2(2)`.
    pub fn directory(&self, path: &[u8]) -> Result<OwnedFd, Error> {
        self.follow(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// The place of the last name of `path`, whatever is there. `None` when the path has none, because it is the root or ends
    /// in `.` or `..`, and so is a directory that exists or nothing at all.
    ///
    /// # Errors
    /// When the directory it is in cannot be opened.
    pub fn slot(&self, path: &[u8]) -> Result<Option<Slot>, Error> {
        if path.is_empty() || path.len() > MAX_PATH || path.contains(&0) {
            return Err(Error::refused("resolve", path, "a path has 1 to 4095 bytes and no NUL"));
        }
        let (parent, last) = parent_and_last(path);
        let Last::Name(name) = last else { return Ok(None) };
        // The path that was asked for says more than the part of it that is missing.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = open_inside(&self.directory, parent, flags, ResolveFlags::IN_ROOT);
        let directory = directory.map_err(Error::system("open", path))?;
        let kind = kind_at(&directory, name).map_err(Error::system("stat", path))?;
        Ok(Some(Slot { directory, name: name.to_vec(), kind, path: path.to_vec() }))
    }

    /// As [`Root::slot`], but where the name is a symbolic link, the slot of what it points to in the end, which need not
    /// exist.
    ///
    /// # Errors
    /// As [`Root::slot`], and `ELOOP`.
    pub fn slot_behind_links(&self, path: &[u8]) -> Result<Option<Slot>, Error> {
        let mut current = path.to_vec();
        for _ in 0..MAX_LINKS {
            let Some(slot) = self.slot(&current)? else { return Ok(None) };
            if slot.kind != Some(FileKind::Symlink) {
                return Ok(Some(Slot { path: path.to_vec(), ..slot }));
            }
            let target = readlinkat(&slot.directory, slot.name.as_slice(), Vec::new());
            let target = target.map_err(Error::system("readlink", path))?.into_bytes();
            current = beside(&current, &target);
        }
        Err(Error::system("resolve", path)(Errno::LOOP))
    }
}

/// The path that a link at `link` means by `target`.
fn beside(link: &[u8], target: &[u8]) -> Vec<u8> {
    if target.starts_with(b"/") {
        return target.to_vec();
    }
    [parent_and_last(link).0, b"/", target].concat()
}

/// What has this name, if anything.
pub(crate) fn kind_at(directory: impl AsFd, name: &[u8]) -> Result<Option<FileKind>, Errno> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(kind_of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Opens `path` without leaving `directory`.
pub(crate) fn open_inside(
    directory: impl AsFd,
    path: &[u8],
    flags: OFlags,
    inside: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = inside | ResolveFlags::NO_MAGICLINKS;
    let open = || openat2(&directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
    for _ in 1..ATTEMPTS {
        match open() {
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
    open()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn root(directory: &Path) -> Root {
        let root = directory.as_os_str().as_bytes().to_vec();
        Root::open(&Place { root, path: Vec::new() }).unwrap()
    }

    fn read(root: &Root, path: &str) -> Result<String, Error> {
        let mut text = String::new();
        let mut file = std::fs::File::from(root.follow(path.as_bytes(), OFlags::RDONLY)?);
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        Ok(text)
    }

    #[test]
    fn every_way_out_of_the_root_leads_back_into_it() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(outer.path().join("file"), "outside").unwrap();
        std::fs::write(inner.join("file"), "inside").unwrap();
        symlink("../../../../file", inner.join("up")).unwrap();
        symlink("/file", inner.join("absolute")).unwrap();
        symlink(outer.path().join("file"), inner.join("real")).unwrap();
        let root = root(&inner);
        for path in ["file", "/file", "../file", "/../../file", "up", "absolute"] {
            assert_eq!(read(&root, path).unwrap(), "inside", "{path}");
        }
        assert_eq!(read(&root, "real").unwrap_err().errno(), Some(Errno::NOENT));
    }

    #[test]
    fn magic_links_lead_nowhere() {
        let root = root(Path::new("/proc"));
        assert_eq!(read(&root, "self/exe").unwrap_err().errno(), Some(Errno::LOOP));
    }

    #[test]
    fn a_slot_is_a_name_and_links_are_followed_only_where_asked() {
        let directory = tempfile::tempdir().unwrap();
        symlink("b", directory.path().join("a")).unwrap();
        symlink("/sub/missing", directory.path().join("b")).unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        symlink("loop", directory.path().join("loop")).unwrap();
        let root = root(directory.path());
        let slot = root.slot(b"a").unwrap().unwrap();
        assert_eq!((slot.name.as_slice(), slot.kind), (&b"a"[..], Some(FileKind::Symlink)));
        let slot = root.slot_behind_links(b"a").unwrap().unwrap();
        assert_eq!((slot.name.as_slice(), slot.kind), (&b"missing"[..], None));
        assert_eq!(root.slot_behind_links(b"loop").unwrap_err().errno(), Some(Errno::LOOP));
        for path in [&b"/"[..], b"..", b"sub/.", b"."] {
            assert!(root.slot(path).unwrap().is_none(), "{path:?}");
        }
        assert!(root.slot(b"").is_err());
    }
}
