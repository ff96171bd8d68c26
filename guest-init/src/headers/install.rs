//! Putting headers in their place, so that at every instant there are either none or all of them.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use firstlight_protocol::headers::{INSTALL_PARENT, MANIFEST_NAME, MAX_MANIFEST, MODULES_PARENT, Manifest};
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, readlinkat, renameat, renameat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, symlinkat, syncfs, unlinkat};

use super::bundle::Bundle;
use super::error::HeadersError;
use super::tree::Tree;
use crate::delete::delete_contents;
use crate::error::CallError;
use crate::stage::in_root::{directory_in_root, open_in_root};

/// The name under which headers are put together, next to where they go. What an earlier boot left there is ours.
const PARTIAL: &str = ".firstlight-headers.partial";

/// The name under which a link that replaces an older one of ours is made.
const PARTIAL_LINK: &str = ".firstlight-build.partial";

/// What all our directories' names begin with.
const OURS: &str = "firstlight-headers-";

/// How headers stand in a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Those of this bundle are installed.
    Installed,
    /// The image brought its own for this kernel, at this place.
    OfTheImage(String),
    /// There are none that could be used.
    Missing,
}

/// What has just been done, in order. A machine can lose its power after each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// A member was written, or the manifest.
    Wrote,
    /// The whole tree is on disk, under its partial name.
    Synced,
    /// It has its name.
    Renamed,
    /// And its name is on disk.
    NameSynced,
    /// `build` leads to it.
    Linked,
}

/// Where a bundle goes in a root.
pub(super) struct Site<'a> {
    root: &'a OwnedFd,
    manifest: &'a Manifest,
    directory: String,
    modules: String,
    build: String,
}

impl<'a> Site<'a> {
    /// The place in `root` for the bundle with this manifest.
    pub(super) fn new(root: &'a OwnedFd, manifest: &'a Manifest) -> Site<'a> {
        let modules = format!("{MODULES_PARENT}/{}", manifest.release);
        let build = format!("{modules}/build");
        Site { root, manifest, directory: manifest.directory(), modules, build }
    }

    /// Looks at what is there. Changes nothing.
    ///
    /// # Errors
    /// [`HeadersError::DeadLink`] when the image's own link is in the way.
    pub(super) fn look(&self) -> Result<Standing, HeadersError> {
        match self.link()? {
            Link::None => Ok(Standing::Missing),
            Link::To(target) if target == self.manifest.build_link() => {
                Ok(if self.is_complete() { Standing::Installed } else { Standing::Missing })
            }
            Link::To(target) if is_ours(&target) => Ok(Standing::Missing),
            Link::To(_) | Link::Other => {
                let makefile = open_in_root(self.root, &format!("{}/Makefile", self.build), OFlag::O_PATH);
                match makefile {
                    Ok(_) => Ok(Standing::OfTheImage(self.build.clone())),
                    Err(_) => Err(HeadersError::DeadLink { path: self.build.clone() }),
                }
            }
        }
    }

    /// Installs `bundle`, saying each step to `after` once it is done. What was begun is taken away again when it fails.
    ///
    /// # Errors
    /// [`HeadersError`]. The `build` link is then as it was.
    pub(super) fn install<R: Read>(
        &self,
        bundle: &mut Bundle<R>,
        after: &mut dyn FnMut(Step),
    ) -> Result<(), HeadersError> {
        let parent = self.open_directory(INSTALL_PARENT)?;
        // It has its name only when it is whole: what is left is the link.
        if !self.is_complete() {
            sweep(&parent)?;
            self.check_room(&parent)?;
            if let Err(error) = self.place(&parent, bundle, after) {
                // The first error is the one to tell; the next installation sweeps again.
                let _ = sweep(&parent);
                return Err(error);
            }
        }
        after(Step::Renamed);
        sync(&parent, INSTALL_PARENT)?;
        after(Step::NameSynced);
        self.make_link()?;
        after(Step::Linked);
        Ok(())
    }

    fn place<R: Read>(
        &self,
        parent: &OwnedFd,
        bundle: &mut Bundle<R>,
        after: &mut dyn FnMut(Step),
    ) -> Result<(), HeadersError> {
        let call = |operation| CallError::on(operation, PARTIAL);
        mkdirat(parent, PARTIAL, Mode::from_bits_truncate(0o755)).map_err(call("mkdir"))?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let top = openat(parent, PARTIAL, flags, Mode::empty()).map_err(call("open"))?;
        let mut tree = Tree::new(&top);
        while let Some(entry) = bundle.next()? {
            tree.make(&entry, bundle)?;
            after(Step::Wrote);
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(&top, MANIFEST_NAME, flags, Mode::from_bits_truncate(0o644));
        let mut file = File::from(file.map_err(CallError::on("create", MANIFEST_NAME))?);
        let written = std::io::Write::write_all(&mut file, self.manifest.to_json().as_bytes());
        written.map_err(CallError::io("write", MANIFEST_NAME))?;
        after(Step::Wrote);
        // One call instead of one for each of ten thousand files; it tells of every write that failed.
        sync(&top, PARTIAL)?;
        after(Step::Synced);
        // A directory of this name that is not complete is not one of ours: it is left alone, and this fails.
        let renamed =
            renameat2(parent, PARTIAL, parent, self.directory.as_str(), RenameFlags::RENAME_NOREPLACE);
        Ok(renamed.map_err(CallError::on("rename to", &self.directory))?)
    }

    /// Whether a directory with the bundle's name holds the bundle's manifest, which is written last.
    fn is_complete(&self) -> bool {
        let path = format!("{INSTALL_PARENT}/{}/{MANIFEST_NAME}", self.directory);
        // Not blocking, since anything may be there, a FIFO for instance.
        let Ok(file) = open_in_root(self.root, &path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) else {
            return false;
        };
        let mut bytes = Vec::new();
        let read = File::from(file).take(MAX_MANIFEST as u64 + 1).read_to_end(&mut bytes);
        read.is_ok() && bytes == self.manifest.to_json().as_bytes()
    }

    fn link(&self) -> Result<Link, HeadersError> {
        let call = |errno| CallError::on("look at", &self.build)(errno);
        let modules = match open_in_root(self.root, &self.modules, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Ok(modules) => modules,
            Err(Errno::ENOENT) => return Ok(Link::None),
            Err(errno) => return Err(call(errno).into()),
        };
        match readlinkat(&modules, "build") {
            Ok(target) => Ok(Link::To(target.to_string_lossy().into_owned())),
            Err(Errno::ENOENT) => Ok(Link::None),
            Err(Errno::EINVAL) => Ok(Link::Other),
            Err(errno) => Err(call(errno).into()),
        }
    }

    /// The last step. A link appears, or is replaced by another, at once.
    fn make_link(&self) -> Result<(), HeadersError> {
        let modules = self.open_directory(&self.modules)?;
        let target = self.manifest.build_link();
        let call = |operation| CallError::on(operation, &self.build);
        match self.link()? {
            Link::To(present) if present == target => {}
            Link::To(present) if is_ours(&present) => {
                // A power cut may have left one.
                let _ = unlinkat(&modules, PARTIAL_LINK, UnlinkatFlags::NoRemoveDir);
                symlinkat(target.as_str(), &modules, PARTIAL_LINK).map_err(call("symlink"))?;
                renameat(&modules, PARTIAL_LINK, &modules, "build").map_err(call("replace"))?;
            }
            // There was none when it began. One that someone else has made since then makes this fail, and stays.
            Link::None | Link::To(_) | Link::Other => {
                symlinkat(target.as_str(), &modules, "build").map_err(call("symlink"))?;
            }
        }
        sync(&modules, &self.modules)
    }

    /// What does not fit is refused before it fills the disk.
    fn check_room(&self, parent: &OwnedFd) -> Result<(), HeadersError> {
        let disk = fstatvfs(parent).map_err(CallError::on("statvfs", INSTALL_PARENT))?;
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        // Some file systems make inodes as they go, and say that they have none.
        let inodes = if disk.files() == 0 { u64::MAX } else { disk.files_available() };
        let (needed, entries) = (self.manifest.space, self.manifest.entries);
        if needed <= free && entries <= inodes {
            return Ok(());
        }
        Err(HeadersError::NoRoom { path: INSTALL_PARENT, needed, entries, free, inodes })
    }

    /// A directory of the image's, made if missing, to be read from as well.
    fn open_directory(&self, path: &str) -> Result<OwnedFd, HeadersError> {
        let place = directory_in_root(self.root, path)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(openat(&place, ".", flags, Mode::empty()).map_err(CallError::on("open", path))?)
    }
}

/// What `build` is.
enum Link {
    /// Nothing is there.
    None,
    /// A link.
    To(String),
    /// Something else.
    Other,
}

fn is_ours(target: &str) -> bool {
    let name = target.strip_prefix(INSTALL_PARENT).and_then(|rest| rest.strip_prefix('/'));
    name.is_some_and(|name| name.starts_with(OURS))
}

/// Takes away what an installation has begun and not ended.
fn sweep(parent: &OwnedFd) -> Result<(), HeadersError> {
    let call = |operation| CallError::on(operation, PARTIAL);
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(parent, PARTIAL, flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(call("open")(errno).into()),
        Ok(partial) => delete_contents(&partial, &[]).map_err(call("empty"))?,
    }
    Ok(unlinkat(parent, PARTIAL, UnlinkatFlags::RemoveDir).map_err(call("remove"))?)
}

fn sync(directory: &OwnedFd, path: &str) -> Result<(), HeadersError> {
    Ok(syncfs(directory).map_err(CallError::on("sync", path))?)
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
