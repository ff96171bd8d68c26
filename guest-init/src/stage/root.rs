//! The root file system, and the switch to it.
//!
//! After the switch the new root is mounted over the initramfs, whose root is an ordinary mount beneath it. That is
//! what makes `pivot_root(2)` work in the containers of the guest, which refuses a process whose root is the
//! initramfs itself.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, chdir, chroot, unlinkat};

use super::Context;
use super::early::MOVED;
use super::in_root::{directory_in_root, through_proc};
use super::mounts::{MountError, perform};
use crate::error::CallError;
use crate::plan::{Mount, NEW_ROOT, OLD_ROOT_DIRECTORIES};

/// Directories inside directories that [`free_initramfs`] goes down, so that no archive can exhaust the stack.
const MAX_DEPTH: u32 = 32;

/// Mounts the root as planned and makes it the root of this process, all threads included.
///
/// # Errors
/// [`MountError`]. The root is then still the initramfs.
pub(crate) fn switch(mounts: &[Mount], context: &Context) -> Result<(), MountError> {
    perform(mounts, &context.devices, context.spec.boot.device_timeout_ms)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(NEW_ROOT, flags, Mode::empty()).map_err(CallError::on("open", NEW_ROOT))?;
    // All mount points first: a root that lacks one is refused while everything is still in its place.
    let targets = MOVED.map(|path| directory_in_root(&root, path).map(|target| (path, target)));
    for target in targets {
        let (path, target) = target?;
        move_mount(path, &through_proc(&target)).map_err(CallError::on("move the mount", path))?;
    }
    let switch = || {
        chdir(NEW_ROOT)?;
        move_mount(".", "/")?;
        chroot(".")?;
        chdir("/")
    };
    switch().map_err(CallError::on("switch the root to", NEW_ROOT))?;
    Ok(())
}

fn move_mount(from: &str, to: &str) -> nix::Result<()> {
    mount(Some(from), to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
}

/// Frees the memory of the initramfs: deletes everything in it but the directory `keep`, which is in use as a lower
/// layer, and the places of mounts that the end of the VM comes back to.
///
/// What cannot be deleted is left: it costs memory and nothing else.
pub(crate) fn free_initramfs(initramfs: &OwnedFd, keep: Option<&str>) {
    let Ok(device) = fstat(initramfs).map(|stat| stat.st_dev) else { return };
    let mut kept: Vec<&str> = OLD_ROOT_DIRECTORIES.iter().map(|path| path.trim_start_matches('/')).collect();
    if let Some(keep) = keep {
        let keep = keep.trim_matches('/');
        if keep.is_empty() {
            return;
        }
        kept.push(keep);
    }
    let _ = delete_below(initramfs, "", &kept, device, MAX_DEPTH);
}

/// Deletes what is in `directory`, whose path in the initramfs is `path`, on this file system and not kept.
fn delete_below(directory: &OwnedFd, path: &str, kept: &[&str], device: u64, depth: u32) -> nix::Result<()> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let mut entries = nix::dir::Dir::openat(directory, ".", flags, Mode::empty())?;
    let names: Vec<CString> = entries.iter().flatten().map(|entry| entry.file_name().to_owned()).collect();
    for name in names {
        let Ok(text) = name.to_str() else { continue };
        let inside = if path.is_empty() { text.to_owned() } else { format!("{path}/{text}") };
        if text == "." || text == ".." || kept.contains(&inside.as_str()) {
            continue;
        }
        let stat = fstatat(directory, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if stat.st_dev != device {
            continue;
        }
        if is_directory(&stat) && depth > 0 {
            let below = nix::fcntl::openat(directory, name.as_c_str(), flags, Mode::empty())?;
            delete_below(&below, &inside, kept, device, depth - 1)?;
        }
        delete(directory, &name, &stat)?;
    }
    Ok(())
}

fn is_directory(stat: &FileStat) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()
}

fn delete(directory: &OwnedFd, name: &CStr, stat: &FileStat) -> nix::Result<()> {
    let how = if is_directory(stat) { UnlinkatFlags::RemoveDir } else { UnlinkatFlags::NoRemoveDir };
    match unlinkat(directory, name, how) {
        // A directory that keeps something, or on which something is mounted.
        Ok(()) | Err(Errno::ENOTEMPTY | Errno::EBUSY) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};

    #[test]
    fn the_initramfs_is_deleted_but_for_the_lower_layer_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        for path in ["firstlight/root/bin", "firstlight/modules", "firstlight/mnt/upper", "dev"] {
            create_dir_all(at(path)).unwrap();
        }
        for path in ["init", "firstlight/agent", "firstlight/modules/virtio.ko", "firstlight/root/bin/sh"] {
            write(at(path), "x").unwrap();
        }
        std::os::unix::fs::symlink("/", at("firstlight/link")).unwrap();
        let root = std::fs::File::open(directory.path()).unwrap().into();
        free_initramfs(&root, Some("/firstlight/root"));
        assert!(at("firstlight/root/bin/sh").exists() && at("firstlight/mnt/upper").exists());
        for gone in ["init", "firstlight/agent", "firstlight/modules", "firstlight/link", "dev"] {
            assert!(!at(gone).exists(), "{gone}");
        }
    }

    #[test]
    fn an_initramfs_that_is_the_lower_layer_itself_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path().join("init"), "x").unwrap();
        let root = std::fs::File::open(directory.path()).unwrap().into();
        free_initramfs(&root, Some("/"));
        assert!(directory.path().join("init").exists());
    }
}
