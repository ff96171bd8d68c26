//! Reading a file or a directory as a stream of entries.
//!
//! The order is that of the directories themselves, parents first: sorting would hold all names in memory. What
//! vanishes while the copy runs is left out; a file that becomes shorter ends it, because what was promised
//! cannot be sent any more.

mod select;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use firstlight_protocol::message::copy::{
    Attribute, Content, Entry, Extent, MAX_DEPTH, Totals, data_length,
};
use firstlight_protocol::message::file::FileKind;
use firstlight_protocol::message::sync::Owner;
use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, Stat, fstat, fstatfs, openat, readlinkat, statat,
};
use rustix::io::Errno;

use crate::error::Error;
use crate::metadata::{PLAIN_MODE, describe, kind_of, modified};
use crate::names::join;
use crate::root::Root;
use crate::{attributes, sparse};

pub use select::send_selected;
pub(crate) use select::walk;

/// Files with several names that are remembered, to send their further names as links. What comes beyond is sent as
/// files of their own.
const MAX_LINKED: usize = 16_384;

/// The largest file without a size of its own, such as those of `/proc`, in bytes. They are read twice: once to
/// learn how long they are.
const MAX_GENERATED: u64 = 16 << 20;

/// File systems that show the kernel and not data: a directory in which one is mounted is copied empty. Source:
/// `statfs(2)` and `linux/magic.h`.
const NO_DATA: &[u64] = &[
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x1cd1,      // devpts
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0xde5e_81e4, // efivarfs
    0x6265_6570, // configfs
    0x1980_0202, // mqueue
];

/// Where entries go.
pub trait Outlet {
    /// Whether a file is left out, with all that is in it. Asked before it is opened.
    fn skips(&mut self, path: &[u8], is_directory: bool) -> bool {
        let _ = (path, is_directory);
        false
    }

    /// Takes an entry. Its extents follow, each by one call of [`Outlet::extent`].
    ///
    /// # Errors
    /// [`Error::Outlet`] when nobody takes entries any more.
    fn entry(&mut self, entry: &Entry) -> Result<(), Error>;

    /// Takes a piece of the file whose entry came last.
    ///
    /// # Errors
    /// [`Reading`].
    fn extent(&mut self, file: BorrowedFd<'_>, extent: Extent) -> Result<(), Reading>;
}

/// Why a piece of a file could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The file cannot be read.
    Failed(Errno),
    /// The file ends before the piece does.
    Shrunk,
    /// Nobody takes it any more.
    Outlet,
}

/// Sends what is at `path` in `root`. With `follow`, a symbolic link there stands for what it points to; a path that ends in a
/// slash or in `/.` follows it anyhow.
///
/// # Errors
/// [`Error`] with the path below `path`. What was sent by then is no whole copy.
pub fn send(root: &Root, path: &[u8], follow: bool, outlet: &mut dyn Outlet) -> Result<Totals, Error> {
    let mut source = Source::new(path, outlet, Some(HashMap::new()), None);
    let slot = if follow || path.ends_with(b"/") { None } else { root.slot(path)? };
    let found = match &slot {
        Some(slot) => source.visit(&slot.directory, &slot.name, b"")?,
        None => {
            // Opened as itself: the name `.` is then never a link, whatever kind of file it is.
            let target = root.follow(path, OFlags::PATH)?;
            let stat = fstat(&target).map_err(Error::system("stat", path))?;
            if kind_of(&stat) == FileKind::Directory {
                source.visit(&target, b".", b"")?
            } else {
                let file = root.follow(path, OFlags::RDONLY | OFlags::NONBLOCK)?;
                source.file(&file, b"")?;
                true
            }
        }
    };
    if !found {
        return Err(Error::system("open", path)(Errno::NOENT));
    }
    if source.totals.entries == 0 {
        return Err(Error::refused("copy", path, "it is a socket, a pipe or a device"));
    }
    source.descend()?;
    Ok(source.totals)
}

/// A copy under way.
struct Source<'a> {
    base: &'a [u8],
    outlet: &'a mut dyn Outlet,
    totals: Totals,
    /// The first path of each file that has more than one, by device and inode.
    /// `None` when links are not looked for.
    linked: Option<HashMap<(u64, u64), Vec<u8>>>,
    /// Whose the files become, in place of their owner's.
    owner: Option<Owner>,
    open: Vec<Level>,
}

/// A directory that is being read.
struct Level {
    path: Vec<u8>,
    directory: OwnedFd,
    device: u64,
    entries: Dir,
}

impl<'a> Source<'a> {
    fn new(
        base: &'a [u8],
        outlet: &'a mut dyn Outlet,
        linked: Option<HashMap<(u64, u64), Vec<u8>>>,
        owner: Option<Owner>,
    ) -> Source<'a> {
        Source { base, outlet, totals: Totals::default(), linked, owner, open: Vec::new() }
    }

    /// Visits what is in the open directories, depth first, until all are read.
    fn descend(&mut self) -> Result<(), Error> {
        while let Some(mut level) = self.open.pop() {
            let Some(name) = self.next_name(&mut level)? else { continue };
            let path = join(&level.path, &name);
            let directory = level.directory.try_clone();
            let directory = directory.map_err(|error| self.error("open", &path)(errno_of(&error)))?;
            self.open.push(level);
            self.visit(&directory, &name, &path)?;
        }
        Ok(())
    }

    fn next_name(&self, level: &mut Level) -> Result<Option<Vec<u8>>, Error> {
        for entry in level.entries.by_ref() {
            let entry = entry.map_err(self.error("list", &level.path))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                return Ok(Some(name.to_vec()));
            }
        }
        Ok(None)
    }

    /// Sends one name of a directory. False when it is not there (any more).
    fn visit(&mut self, directory: &OwnedFd, name: &[u8], path: &[u8]) -> Result<bool, Error> {
        let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(self.error("stat", path)(errno)),
        };
        if self.outlet.skips(path, kind_of(&stat) == FileKind::Directory) {
            return Ok(true);
        }
        let open = |flags| openat(directory, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let opened = match kind_of(&stat) {
            FileKind::Symlink => return self.symlink(directory, name, path, &stat),
            FileKind::Directory => open(OFlags::RDONLY | OFlags::DIRECTORY),
            // Should it be a pipe by now, opening it must not wait for a writer.
            FileKind::File => open(OFlags::RDONLY | OFlags::NONBLOCK),
            FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                self.totals.special += 1;
                return Ok(true);
            }
        };
        match opened {
            Ok(file) if kind_of(&stat) == FileKind::Directory => self.enter(file, path)?,
            Ok(file) => self.file(&file, path)?,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(self.error("open", path)(errno)),
        }
        Ok(true)
    }

    fn symlink(&mut self, directory: &OwnedFd, name: &[u8], path: &[u8], stat: &Stat) -> Result<bool, Error> {
        match readlinkat(directory, name, Vec::new()) {
            Ok(target) => {
                self.emit(path, stat, Vec::new(), Content::Symlink(target.into_bytes()))?;
                Ok(true)
            }
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error("readlink", path)(errno)),
        }
    }

    /// Sends a directory and opens it to be read.
    fn enter(&mut self, directory: OwnedFd, path: &[u8]) -> Result<(), Error> {
        let stat = fstat(&directory).map_err(self.error("stat", path))?;
        let attributes = self.attributes(&directory, path)?;
        self.emit(path, &stat, attributes, Content::Directory)?;
        if self.open.len() == MAX_DEPTH {
            let path = join(self.base, path);
            return Err(Error::refused("copy", &path, "more than 256 directories are inside one another"));
        }
        let mounted = self.open.last().is_some_and(|level| level.device != stat.st_dev);
        if mounted && shows_no_data(&directory) {
            return Ok(());
        }
        let entries = Dir::read_from(&directory).map_err(self.error("list", path))?;
        self.open.push(Level { path: path.to_vec(), directory, device: stat.st_dev, entries });
        Ok(())
    }

    /// Sends a regular file with what is in it.
    fn file(&mut self, file: &OwnedFd, path: &[u8]) -> Result<(), Error> {
        let stat = fstat(file).map_err(self.error("stat", path))?;
        if kind_of(&stat) != FileKind::File {
            self.totals.special += 1;
            return Ok(());
        }
        if let Some(first) = self.first_name(&stat, path) {
            return self.emit(path, &stat, Vec::new(), Content::HardLink(first));
        }
        let attributes = self.attributes(file, path)?;
        let metadata = describe(&stat);
        let (size, allocated) = match metadata.size {
            0 => self.generated(file, path).map(|size| (size, size))?,
            size => (size, metadata.allocated),
        };
        let extents = sparse::extents(file, size, allocated).map_err(self.error("read", path))?;
        self.totals.bytes += data_length(&extents);
        self.emit(path, &stat, attributes, Content::File { size, extents: extents.clone() })?;
        for extent in extents {
            self.outlet.extent(file.as_fd(), extent).map_err(|reading| match reading {
                Reading::Failed(errno) => self.error("read", path)(errno),
                Reading::Shrunk => {
                    Error::refused("copy", &join(self.base, path), "it became shorter while it was read")
                }
                Reading::Outlet => Error::Outlet,
            })?;
        }
        Ok(())
    }

    /// The path under which a file with several names was sent before. Otherwise remembers it.
    fn first_name(&mut self, stat: &Stat, path: &[u8]) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        let key = (stat.st_dev, stat.st_ino);
        let linked = self.linked.as_mut()?;
        if let Some(first) = linked.get(&key) {
            return Some(first.clone());
        }
        if linked.len() < MAX_LINKED {
            linked.insert(key, path.to_vec());
        }
        None
    }

    /// How much there is to read of a file that says it is empty.
    fn generated(&self, file: &OwnedFd, path: &[u8]) -> Result<u64, Error> {
        let mut buffer = [0; 4096];
        let mut size = 0;
        loop {
            match rustix::io::pread(file, &mut buffer, size) {
                Ok(0) => return Ok(size),
                Ok(count) if size < MAX_GENERATED => size += count as u64,
                Ok(_) => {
                    let path = join(self.base, path);
                    return Err(Error::refused("copy", &path, "it has no size and no end within 16 MiB"));
                }
                Err(errno) => return Err(self.error("read", path)(errno)),
            }
        }
    }

    fn attributes(&mut self, file: &OwnedFd, path: &[u8]) -> Result<Vec<Attribute>, Error> {
        let (attributes, lost) = attributes::read(file).map_err(self.error("listxattr", path))?;
        self.totals.lost_attributes += lost;
        Ok(attributes)
    }

    fn emit(
        &mut self,
        path: &[u8],
        stat: &Stat,
        attributes: Vec<Attribute>,
        content: Content,
    ) -> Result<(), Error> {
        let (mode, Owner { uid, gid }) = match self.owner {
            // A program that runs as its owner must not run as another one.
            Some(owner) => (stat.st_mode & PLAIN_MODE, owner),
            None => (stat.st_mode & 0o7777, Owner { uid: stat.st_uid, gid: stat.st_gid }),
        };
        let entry =
            Entry { path: path.to_vec(), mode, uid, gid, modified: modified(stat), attributes, content };
        // A name too deep or too long to be sent is told here, where it can be named, and not by the receiver.
        entry.check()?;
        self.totals.entries += 1;
        self.outlet.entry(&entry)
    }

    fn error(&self, operation: &'static str, path: &[u8]) -> impl Fn(Errno) -> Error + use<> {
        let path = join(self.base, path);
        move |errno| Error::system(operation, &path)(errno)
    }
}

fn shows_no_data(directory: &OwnedFd) -> bool {
    let kind = fstatfs(directory).ok().and_then(|fs| u64::try_from(fs.f_type).ok());
    kind.is_some_and(|kind| NO_DATA.contains(&kind))
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
