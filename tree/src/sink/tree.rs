//! A directory that entries are written below.
//!
//! Each path is resolved beneath the base by the kernel (`RESOLVE_BENEATH`): a symbolic link on the way may lead elsewhere below the
//! base, as `/lib` does, but an entry whose way leads out of it is refused, whether the link was there before or came
//! with the stream.

use std::os::fd::{AsFd, OwnedFd};

use firstlight_protocol::message::copy::{Content, Entry, Totals};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, fsync, linkat, mkdirat, symlinkat, syncfs};
use rustix::io::Errno;

use super::file::Incoming;
use super::ledger::Ledger;
use super::publish::{Hidden, replacing};
use super::staging::Staging;
use crate::error::Error;
use crate::metadata::{apply, apply_to_link};
use crate::names::{Last, join, parent_and_last};
use crate::root::open_inside;

/// Of directories that no entry describes, but for what is in them.
const IMPLIED_MODE: u32 = 0o755;

/// The base and what is not finished below it.
#[derive(Debug)]
pub(super) struct Tree {
    // Closed before the staging directory is removed, and dropped in this order.
    base: OwnedFd,
    staging: Option<Staging>,
    path: Vec<u8>,
    ledger: Ledger,
    /// New directories that the stream is inside of, outermost first. Their metadata comes last: what is put into them
    /// would change their time, and their mode may forbid it.
    inside: Vec<Entry>,
    /// The directory of the entry before, which is mostly that of the next.
    parent: Option<(Vec<u8>, OwnedFd)>,
}

impl Tree {
    /// A directory that is there.
    pub(super) fn existing(base: OwnedFd, path: Vec<u8>, ledger: Ledger) -> Tree {
        Tree { base, staging: None, path, ledger, inside: Vec::new(), parent: None }
    }

    /// A new directory, which `entry` describes.
    pub(super) fn staged(base: OwnedFd, path: Vec<u8>, staging: Staging, entry: Entry) -> Tree {
        // What is below a temporary directory goes with it.
        let ledger = Ledger::default();
        Tree { base, staging: Some(staging), path, ledger, inside: vec![entry], parent: None }
    }

    /// Puts an entry in its place. A file is given back to take its bytes.
    pub(super) fn add(&mut self, entry: Entry, totals: &mut Totals) -> Result<Option<Incoming>, Error> {
        self.leave(&entry.path, totals)?;
        let (parent_path, last) = parent_and_last(&entry.path);
        let Last::Name(name) = last else { return Err(Error::Stream("an entry has no name")) };
        let parent = self.parent(parent_path)?;
        let shown = join(&self.path, &entry.path);
        let error = |operation| Error::system(operation, &shown);
        match &entry.content {
            Content::File { size, extents } => {
                let hidden = Hidden::new(parent, &self.ledger).map_err(error("create"))?;
                let name = name.to_vec();
                let (size, extents) = (*size, extents.clone());
                return Ok(Some(Incoming::new(hidden, name, entry, size, &extents)));
            }
            Content::Symlink(target) => {
                replacing(&parent, name, &self.ledger, |name| symlinkat(target.as_slice(), &parent, name))
                    .and_then(|()| apply_to_link(&parent, name, &entry))
                    .map_err(error("symlink"))?;
            }
            Content::HardLink(target) => self.link(target, &parent, name).map_err(error("link"))?,
            Content::Directory => {
                if self.make_directory(&parent, name, &entry.path).map_err(error("mkdir"))? {
                    self.inside.push(entry);
                }
            }
        }
        // A name may now mean another directory than before.
        self.parent = None;
        Ok(None)
    }

    /// Sets what is left to set, and shows the directory if it is new.
    pub(super) fn finish(mut self, durable: bool, totals: &mut Totals) -> Result<(), Error> {
        while let Some(entry) = self.inside.pop() {
            self.complete(&entry, totals)?;
        }
        let error = |operation| Error::system(operation, &self.path);
        if durable {
            syncfs(&self.base).map_err(error("syncfs"))?;
        }
        if let Some(staging) = &mut self.staging {
            staging.publish().map_err(error("rename"))?;
            if durable {
                fsync(staging.parent()).map_err(error("fsync"))?;
            }
        }
        Ok(())
    }

    /// Completes the new directories that the stream has left.
    fn leave(&mut self, next: &[u8], totals: &mut Totals) -> Result<(), Error> {
        while let Some(entry) = self.inside.pop_if(|entry| !contains(&entry.path, next)) {
            self.complete(&entry, totals)?;
        }
        Ok(())
    }

    fn complete(&self, entry: &Entry, totals: &mut Totals) -> Result<(), Error> {
        let directory = self.open(&entry.path, OFlags::RDONLY | OFlags::DIRECTORY);
        let lost = directory.and_then(|directory| apply(directory, entry));
        totals.lost_attributes += lost.map_err(Error::system("chmod", &join(&self.path, &entry.path)))?;
        Ok(())
    }

    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        open_inside(&self.base, path, flags, ResolveFlags::BENEATH)
    }

    /// The directory that an entry goes into, made if no entry made it.
    fn parent(&mut self, path: &[u8]) -> Result<OwnedFd, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let shown = join(&self.path, path);
        if let Some((known, directory)) = &self.parent
            && known == path
        {
            let again = rustix::io::fcntl_dupfd_cloexec(directory, 0);
            return again.map_err(Error::system("open", &shown));
        }
        let opened = match self.open(path, flags) {
            Err(Errno::NOENT) => self.make_parents(path).and_then(|()| self.open(path, flags)),
            opened => opened,
        };
        let directory = opened.map_err(|errno| match errno {
            Errno::XDEV => Error::refused("copy to", &shown, "a symbolic link there leaves the destination"),
            errno => Error::system("open", &shown)(errno),
        })?;
        let again = rustix::io::fcntl_dupfd_cloexec(&directory, 0).map_err(Error::system("open", &shown))?;
        self.parent = Some((path.to_vec(), directory));
        Ok(again)
    }

    fn make_parents(&self, path: &[u8]) -> Result<(), Errno> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([path.len()]) {
            let (above, Last::Name(name)) = parent_and_last(&path[..end]) else { continue };
            let above = self.open(above, OFlags::PATH | OFlags::DIRECTORY)?;
            match mkdirat(&above, name, Mode::from_raw_mode(IMPLIED_MODE)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Makes a directory, private until it is complete. False when there was one, or a link to one below the base.
    fn make_directory(&self, parent: impl AsFd, name: &[u8], path: &[u8]) -> Result<bool, Errno> {
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => self.open(path, OFlags::PATH | OFlags::DIRECTORY).map(|_| false),
            Err(errno) => Err(errno),
        }
    }

    /// Gives a file of the stream one more name.
    fn link(&self, target: &[u8], parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        let (directory, Last::Name(first)) = parent_and_last(target) else { return Err(Errno::INVAL) };
        let directory = self.open(directory, OFlags::PATH | OFlags::DIRECTORY)?;
        replacing(parent, name, &self.ledger, |name| {
            linkat(&directory, first, parent, name, AtFlags::empty())
        })
    }
}

/// Whether `path` is below `directory`, where both are below the source.
fn contains(directory: &[u8], path: &[u8]) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|below| below.starts_with(b"/"))
}
