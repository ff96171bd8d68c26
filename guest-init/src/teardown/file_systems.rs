//! Unmounting: everything in the root in reverse, then the root itself from outside of it, back in the initramfs.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir, sync};

use crate::plan::{NEW_ROOT, OLD_ROOT_DIRECTORIES};
use crate::stage::early::MOVED;
use crate::stage::in_root::through_proc;
use crate::sys::swapoff;

/// Unmounts all there is, as cleanly as can be, and writes back what is left.
pub(super) fn unmount_all(initramfs: &OwnedFd) {
    stop_swapping();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for target in in_reverse(&mounts) {
        unmount(&target);
    }
    if leave_root(initramfs).is_ok() {
        unmount_root();
    } else {
        // Either the root was never switched, or it cannot be left: then read-only is the best there is.
        let _ = remount_read_only("/");
    }
    sync();
}

/// Unmounts the root at `old_root` and all that is mounted in it.
pub(super) fn unmount_below(old_root: &str) {
    stop_swapping();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for target in in_reverse(&mounts) {
        let below = target.strip_prefix(old_root);
        if below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            unmount(&target);
        }
    }
    sync();
}

fn stop_swapping() {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    for swap in swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()) {
        if let Ok(path) = CString::new(unescape(swap)) {
            // What cannot be swapped in again belongs to processes that are gone.
            let _ = swapoff(&path);
        }
    }
}

/// The mounts to take away, last first, without the root and those that init itself lives on.
fn in_reverse(mountinfo: &str) -> Vec<String> {
    let targets = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let own = |target: &str| target == "/" || MOVED.contains(&target) || target == "/sys/fs/cgroup";
    let mut targets: Vec<String> = targets.filter(|target| !own(target)).collect();
    targets.reverse();
    targets
}

/// A path of `/proc/self/mountinfo` or `/proc/swaps` as it is: blanks and backslashes are in octal there.
fn unescape(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Unmounts one file system. One that is busy, because a process could not be killed or a loop device holds a file of
/// it, is written back, made read-only where possible, and taken out of the tree.
fn unmount(target: &str) {
    let flags = MntFlags::UMOUNT_NOFOLLOW;
    match umount2(target, flags) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(_) => {
            let _ = remount_read_only(target);
            let _ = umount2(target, flags | MntFlags::MNT_DETACH);
        }
    }
}

fn remount_read_only(target: &str) -> nix::Result<()> {
    sync();
    mount(None::<&str>, target, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>)
}

/// Moves the root back to where it was put together and goes back to the initramfs. All threads come along.
fn leave_root(initramfs: &OwnedFd) -> nix::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let place = openat(initramfs, NEW_ROOT.trim_start_matches('/'), flags, Mode::empty())?;
    mount(Some("/"), through_proc(&place).as_str(), None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    fchdir(initramfs)?;
    chroot(".")?;
    chdir("/")
}

fn unmount_root() {
    // The console and the events file are open on some of these; they stay usable.
    for own in MOVED {
        let _ = umount2(format!("{NEW_ROOT}{own}").as_str(), MntFlags::MNT_DETACH);
    }
    for directory in OLD_ROOT_DIRECTORIES.iter().rev() {
        unmount(directory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_taken_away_last_first_and_init_keeps_its_own() {
        let mountinfo = "\
            21 1 0:20 / / rw - overlay overlay rw\n\
            22 21 0:5 / /dev rw - devtmpfs devtmpfs rw\n\
            23 22 0:21 / /dev/pts rw - devpts devpts rw\n\
            24 21 0:6 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
            25 21 254:0 / /data rw - ext4 /dev/vda rw\n\
            26 25 254:16 / /data/my\\040files rw - ext4 /dev/vdb rw\n";
        assert_eq!(in_reverse(mountinfo), ["/data/my files", "/data", "/dev/pts"]);
    }

    #[test]
    fn only_octal_escapes_are_undone() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescape("/a\\9"), "/a\\9");
        assert_eq!(unescape("/a\\04"), "/a\\04");
    }
}
