//! A new directory that is filled under a temporary name.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, RenameFlags, mkdirat, openat, renameat, renameat_with};
use rustix::io::Errno;

use super::ledger::{Ledger, Note};
use super::publish::under_temporary_name;
use crate::remove::remove_tree;

/// A directory that nobody looks for yet. Dropped before it is published, it goes with all that is in it.
#[derive(Debug)]
pub(super) struct Staging {
    parent: OwnedFd,
    temporary: Vec<u8>,
    name: Vec<u8>,
    published: bool,
    // Dropped after the directory is gone.
    _note: Note,
}

impl Staging {
    /// Makes the directory beside `name` in `parent`, and opens it.
    pub(super) fn new(parent: OwnedFd, name: Vec<u8>, ledger: &Ledger) -> Result<(Staging, OwnedFd), Errno> {
        let make = |temporary: &[u8]| {
            let note = ledger.note(&parent, temporary);
            mkdirat(&parent, temporary, Mode::RWXU).map(|()| note)
        };
        let (temporary, note) = under_temporary_name(make)?;
        let staging = Staging { parent, temporary, name, published: false, _note: note };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(&staging.parent, staging.temporary.as_slice(), flags, Mode::empty())?;
        Ok((staging, directory))
    }

    /// The directory it is in.
    pub(super) fn parent(&self) -> &OwnedFd {
        &self.parent
    }

    /// Gives it its name, unless something has taken that meanwhile.
    pub(super) fn publish(&mut self) -> Result<(), Errno> {
        let (from, to) = (self.temporary.as_slice(), self.name.as_slice());
        match renameat_with(&self.parent, from, &self.parent, to, RenameFlags::NOREPLACE) {
            // A file system without this flag. A directory then still only takes the place of an empty one.
            Err(Errno::INVAL) => renameat(&self.parent, from, &self.parent, to)?,
            renamed => renamed?,
        }
        self.published = true;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // Nobody is left to be told; the name says whose leftover it would be.
            let _ = remove_tree(&self.parent, &self.temporary);
        }
    }
}
