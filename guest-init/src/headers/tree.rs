//! Writing a bundle's members below one directory, and nowhere else.
//!
//! The directory is new and empty, so a symbolic link met on the way to a member can only be the bundle's own. None is
//! followed: the kernel refuses the path, and with it the bundle.

use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;

use firstlight_protocol::headers::{Entry, Kind};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::symlinkat;

use super::bundle::Bundle;
use super::error::HeadersError;
use crate::error::CallError;

/// Bytes written at a time: most headers are smaller.
const BUFFER: usize = 64 << 10;

/// A tree that grows.
pub(super) struct Tree<'a> {
    top: &'a OwnedFd,
    /// The directory of the last member, which most often is that of the next one too.
    parent: Option<(String, OwnedFd)>,
    buffer: Vec<u8>,
}

impl<'a> Tree<'a> {
    /// Below `top`, a directory.
    pub(super) fn new(top: &'a OwnedFd) -> Tree<'a> {
        Tree { top, parent: None, buffer: vec![0; BUFFER] }
    }

    /// Makes the member that `bundle` is at.
    ///
    /// # Errors
    /// [`HeadersError`] with the member's path; one that is there already is an error too.
    pub(super) fn make<R: Read>(
        &mut self,
        entry: &Entry,
        bundle: &mut Bundle<R>,
    ) -> Result<(), HeadersError> {
        let path = entry.path.as_str();
        let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
        let parent = self.parent(directory)?;
        match &entry.kind {
            Kind::Directory => Ok(mkdirat(parent, name, Mode::from_bits_truncate(0o755))
                .map_err(CallError::on("mkdir", path))?),
            Kind::Symlink { target } => {
                Ok(symlinkat(target.as_str(), parent, name).map_err(CallError::on("symlink", path))?)
            }
            Kind::File { executable, .. } => {
                let flags =
                    OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let mode = Mode::from_bits_truncate(if *executable { 0o755 } else { 0o644 });
                let file = openat(parent, name, flags, mode).map_err(CallError::on("create", path))?;
                self.fill(file.into(), entry, bundle)
            }
        }
    }

    fn fill<R: Read>(
        &mut self,
        mut file: File,
        entry: &Entry,
        bundle: &mut Bundle<R>,
    ) -> Result<(), HeadersError> {
        loop {
            let count = bundle.contents(&mut self.buffer)?;
            if count == 0 {
                break;
            }
            let bytes = self.buffer.get(..count).unwrap_or_default();
            file.write_all(bytes).map_err(CallError::io("write", &entry.path))?;
        }
        // `make` goes by these times: headers that look new would have modules built again for nothing.
        let time = TimeSpec::new(i64::try_from(entry.mtime).unwrap_or(0), 0);
        Ok(futimens(&file, &time, &time).map_err(CallError::on("set the time of", &entry.path))?)
    }

    fn parent(&mut self, path: &str) -> Result<&OwnedFd, HeadersError> {
        if self.parent.as_ref().is_none_or(|(known, _)| known != path) {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let resolve = ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_XDEV;
            let how = OpenHow::new().flags(flags).resolve(resolve);
            let directory =
                openat2(self.top, path, how).map_err(CallError::on("open the directory", path))?;
            self.parent = Some((path.to_owned(), directory));
        }
        Ok(self.parent.as_ref().map_or(self.top, |(_, directory)| directory))
    }
}
