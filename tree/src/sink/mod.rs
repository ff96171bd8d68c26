//! Writing a stream of entries below one destination, and nowhere else.
//!
//! ```text
//!  entry "" ──► placement ──► Leaf     a file or link: the destination's name, or one inside it
//!                        └──► Tree     a directory that is there, or a new one in Staging
//!                               └── entry "a/b" ──► its directory, beneath the base ──► Hidden ──► published
//! ```
//!
//! A directory that exists keeps its own mode, owner and time: to copy into `/` must not change `/`. A new one shows its name
//! when all is in it. Dropping a sink before [`Sink::finish`] takes back what nobody has seen yet.

mod file;
mod ledger;
mod placement;
mod publish;
mod staging;
mod tree;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;

use firstlight_protocol::message::copy::{Content, Entry, Shape, Totals};
use firstlight_protocol::message::file::{FileKind, Place};
use rustix::fs::{Mode, OFlags, fsync, openat, symlinkat};
use rustix::io::Errno;

use crate::error::Error;
use crate::metadata::apply_to_link;
use crate::names::{Last, join, parent_and_last};
use crate::root::{Root, kind_at};
use file::Incoming;
use placement::{Found, Landing, land};
use publish::{Hidden, replacing};
use staging::Staging;
use tree::Tree;

pub use ledger::{Ledger, Leftovers};

/// Where a stream of entries goes.
#[derive(Debug)]
pub struct Sink {
    root: Root,
    /// The destination as it was asked for; errors name what is below it.
    path: Vec<u8>,
    shape: Shape,
    durable: bool,
    ledger: Ledger,
    totals: Totals,
    target: Option<Target>,
    incoming: Option<Incoming>,
}

#[derive(Debug)]
enum Target {
    /// The source is one file or link, in this directory.
    Leaf(OwnedFd),
    /// The source is a directory.
    Tree(Tree),
}

impl Sink {
    /// A sink for a source that lands at `place` as `shape` says. Nothing is touched before the first entry.
    ///
    /// # Errors
    /// When the root cannot be opened, or the source's name is none.
    pub fn new(place: &Place, shape: Shape, durable: bool) -> Result<Sink, Error> {
        if let Shape::Named(name) = &shape
            && (parent_and_last(name) != (b"", Last::Name(name)) || name.contains(&0))
        {
            return Err(Error::Stream("the source's name is not one name"));
        }
        let (root, path) = (Root::open(place)?, place.path.clone());
        let (ledger, totals) = (Ledger::default(), Totals::default());
        Ok(Sink { root, path, shape, durable, ledger, totals, target: None, incoming: None })
    }

    /// Writes temporary names down in `ledger` from now on.
    #[must_use]
    pub fn with_ledger(self, ledger: Ledger) -> Sink {
        Sink { ledger, ..self }
    }

    /// Takes the next entry. The bytes of its extents follow through [`Sink::data`].
    ///
    /// # Errors
    /// [`Error`] with the path below the destination. The copy cannot go on then.
    pub fn entry(&mut self, entry: Entry) -> Result<(), Error> {
        entry.check()?;
        if self.incoming.is_some() {
            return Err(Error::Stream("an entry comes before the last byte of the file before it"));
        }
        self.totals.entries += 1;
        self.incoming = match &mut self.target {
            None if entry.path.is_empty() => self.begin(entry)?,
            None => return Err(Error::Stream("the first entry is not the source itself")),
            Some(Target::Tree(_)) if entry.path.is_empty() => {
                return Err(Error::Stream("the source itself comes twice"));
            }
            Some(Target::Tree(tree)) => tree.add(entry, &mut self.totals)?,
            Some(Target::Leaf(_)) => return Err(Error::Stream("there is an entry below a file")),
        };
        self.publish_if_whole()
    }

    /// Takes bytes of the file whose entry came last.
    ///
    /// # Errors
    /// As [`Sink::entry`].
    pub fn data(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(incoming) = &mut self.incoming else {
            return Err(Error::Stream("there are bytes that belong to no file"));
        };
        let path = join(&self.path, incoming.path());
        let rest = incoming.write(bytes).map_err(Error::system("write", &path))?;
        if !rest.is_empty() {
            return Err(Error::Stream("there are more bytes than the file has"));
        }
        self.totals.bytes += bytes.len() as u64;
        self.publish_if_whole()
    }

    /// Ends the copy: what was hidden so far is shown.
    ///
    /// # Errors
    /// As [`Sink::entry`], and when the stream ended early.
    pub fn finish(mut self) -> Result<Totals, Error> {
        if self.incoming.is_some() {
            return Err(Error::Stream("it ends inside a file"));
        }
        match self.target.take() {
            None => return Err(Error::Stream("it ends before it began")),
            Some(Target::Tree(tree)) => tree.finish(self.durable, &mut self.totals)?,
            Some(Target::Leaf(directory)) if self.durable => {
                fsync(directory).map_err(Error::system("fsync", &self.path))?;
            }
            Some(Target::Leaf(_)) => {}
        }
        Ok(self.totals)
    }

    fn publish_if_whole(&mut self) -> Result<(), Error> {
        let Some(whole) = self.incoming.take_if(|incoming| incoming.is_whole()) else { return Ok(()) };
        let path = join(&self.path, whole.path());
        self.totals.lost_attributes += whole.publish(self.durable).map_err(Error::system("create", &path))?;
        Ok(())
    }

    /// Finds the source's place, now that it is known to be a directory or not.
    fn begin(&mut self, entry: Entry) -> Result<Option<Incoming>, Error> {
        let path = self.path.clone();
        let slot = self.root.slot_behind_links(&path)?;
        let found = slot.as_ref().map_or(Found::Directory, |slot| found(slot.kind));
        let is_directory = entry.content == Content::Directory;
        let landing = land(&self.shape, is_directory, found, path.ends_with(b"/"));
        match (landing.map_err(|reason| Error::refused("copy to", &path, reason))?, slot, &self.shape) {
            (Landing::There, Some(slot), _) => self.settle(slot.directory, slot.name, slot.kind, entry),
            (Landing::Inside, _, Shape::Named(name)) => {
                let (directory, name) = (self.root.directory(&path)?, name.clone());
                self.path = join(&path, &name);
                let kind = kind_at(&directory, &name).map_err(Error::system("stat", &self.path))?;
                self.settle(directory, name, kind, entry)
            }
            (Landing::Merged | Landing::There | Landing::Inside, ..) => {
                let base = self.root.directory(&path)?;
                self.target = Some(Target::Tree(Tree::existing(base, path, self.ledger.clone())));
                Ok(None)
            }
        }
    }

    /// Puts the source under a name that is free, or whose owner it may replace or merge with.
    fn settle(
        &mut self,
        directory: OwnedFd,
        name: Vec<u8>,
        kind: Option<FileKind>,
        entry: Entry,
    ) -> Result<Option<Incoming>, Error> {
        let refuse = |reason| Err(Error::refused("copy to", &self.path, reason));
        match (&entry.content, found(kind)) {
            (_, Found::Special) => return refuse("a pipe, socket or device is not overwritten"),
            (Content::Directory, Found::Missing | Found::Directory) => {
                let tree = self.tree(directory, name, kind, entry)?;
                self.target = Some(Target::Tree(tree));
                return Ok(None);
            }
            (Content::Directory, Found::File) => {
                return refuse("a directory cannot take the place of a file");
            }
            (_, Found::Directory) => return refuse("a file cannot take the place of a directory"),
            (_, Found::Missing | Found::File) => {}
        }
        let error = |operation| Error::system(operation, &self.path);
        let incoming = match &entry.content {
            Content::File { size, extents } => {
                let parent = directory.try_clone();
                let parent =
                    parent.map_err(|io| error("open")(Errno::from_io_error(&io).unwrap_or(Errno::IO)))?;
                let hidden = Hidden::new(parent, &self.ledger).map_err(error("create"))?;
                Some(Incoming::new(hidden, name, entry.clone(), *size, extents))
            }
            Content::Symlink(target) => {
                replacing(&directory, &name, &self.ledger, |name| {
                    symlinkat(target.as_slice(), &directory, name)
                })
                .and_then(|()| apply_to_link(&directory, &name, &entry))
                .map_err(error("symlink"))?;
                None
            }
            Content::Directory | Content::HardLink(_) => None,
        };
        self.target = Some(Target::Leaf(directory));
        Ok(incoming)
    }

    fn tree(
        &self,
        directory: OwnedFd,
        name: Vec<u8>,
        kind: Option<FileKind>,
        entry: Entry,
    ) -> Result<Tree, Error> {
        let error = |operation| Error::system(operation, &self.path);
        if kind.is_some() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let base = openat(&directory, name.as_slice(), flags, Mode::empty());
            return Ok(Tree::existing(base.map_err(error("open"))?, self.path.clone(), self.ledger.clone()));
        }
        let (staging, base) = Staging::new(directory, name, &self.ledger).map_err(error("mkdir"))?;
        Ok(Tree::staged(base, self.path.clone(), staging, entry))
    }
}

fn found(kind: Option<FileKind>) -> Found {
    match kind {
        None => Found::Missing,
        Some(FileKind::Directory) => Found::Directory,
        Some(FileKind::File | FileKind::Symlink) => Found::File,
        Some(FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice) => {
            Found::Special
        }
    }
}
