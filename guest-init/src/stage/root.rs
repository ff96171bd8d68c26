//! The root file system, and the switch to it.
//!
//! After the switch the new root is mounted over the initramfs, whose root is an ordinary mount beneath it. That is
//! what makes `pivot_root(2)` work in the containers of the guest, which refuses a process whose root is the
//! initramfs itself.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot};

use super::Context;
use super::early::MOVED;
use super::in_root::directory_in_root;
use super::mounts::{MountError, perform};
use crate::delete::delete_contents;
use crate::error::CallError;
use crate::plan::{Mount, NEW_ROOT, OLD_ROOT_DIRECTORIES};
use crate::sys::move_mount;

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
        move_mount(path, target.as_fd()).map_err(CallError::on("move the mount", path))?;
    }
    let switch = || {
        chdir(NEW_ROOT)?;
        mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
        chroot(".")?;
        chdir("/")
    };
    switch().map_err(CallError::on("switch the root to", NEW_ROOT))?;
    Ok(())
}

/// Frees the memory of the initramfs: deletes everything in it but the directory `keep`, which is in use as a lower
/// layer, and the places of mounts that the end of the VM comes back to.
///
/// What cannot be deleted is left: it costs memory and nothing else.
pub(crate) fn free_initramfs(initramfs: &OwnedFd, keep: Option<&str>) {
    let mut kept: Vec<&str> = OLD_ROOT_DIRECTORIES.iter().map(|path| path.trim_start_matches('/')).collect();
    if let Some(keep) = keep {
        let keep = keep.trim_matches('/');
        if keep.is_empty() {
            return;
        }
        kept.push(keep);
    }
    let _ = delete_contents(initramfs, &kept);
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
