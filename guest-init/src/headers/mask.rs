//! Hiding other kernels' directories from programs that look for headers in all of them.
//!
//! An empty read-only tmpfs is mounted over each. What is beneath is untouched, and there again after the next boot.

use std::os::fd::OwnedFd;

use firstlight_protocol::headers::MODULES_PARENT;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use crate::error::CallError;
use crate::stage::in_root::{open_in_root, through_proc};

/// Covers each directory of `/lib/modules` but that of `release`. Empty ones, and those covered before, need no cover.
///
/// # Errors
/// [`CallError`] with the directory concerned.
pub(super) fn mask_others(root: &OwnedFd, release: &str) -> Result<(), CallError> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let parent = match open_in_root(root, MODULES_PARENT, flags) {
        Ok(parent) => parent,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(CallError::on("open", MODULES_PARENT)(errno)),
    };
    for name in directories(&parent).map_err(CallError::on("list", MODULES_PARENT))? {
        let path = format!("{MODULES_PARENT}/{name}");
        if name == release {
            continue;
        }
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory =
            openat(&parent, name.as_str(), flags, Mode::empty()).map_err(CallError::on("open", &path))?;
        if !is_empty(&directory).map_err(CallError::on("list", &path))? {
            cover(&directory).map_err(CallError::on("mount an empty tmpfs over", &path))?;
        }
    }
    Ok(())
}

fn cover(directory: &OwnedFd) -> nix::Result<()> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let target = through_proc(directory);
    mount(Some("firstlight-mask"), target.as_str(), Some("tmpfs"), flags, Some("mode=0755,nr_inodes=1"))
}

/// The names of the directories in `parent`; links to directories are none.
fn directories(parent: &OwnedFd) -> nix::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in list(parent)?.iter() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type() == Some(Type::Directory) && name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

fn is_empty(directory: &OwnedFd) -> nix::Result<bool> {
    let mut list = list(directory)?;
    Ok(list.iter().flatten().all(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")))
}

fn list(directory: &OwnedFd) -> nix::Result<Dir> {
    Dir::openat(directory, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}
