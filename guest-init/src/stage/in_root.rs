//! Paths of the image, resolved as its own programs would: symbolic links are followed, and never out of the root.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};

use super::mounts::MountError;
use crate::error::CallError;

/// The descriptor's path in `/proc`, for calls that take none.
pub(crate) fn through_proc(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// The root directory of this process: after the switch, the image's.
pub(crate) fn root_of_process() -> Result<OwnedFd, CallError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open("/", flags, Mode::empty()).map_err(CallError::on("open", "/"))
}

/// Opens the directory `path` of the image under `root`, making what is missing of it. Symbolic links are followed
/// as the image's own programs would, never out of `root`.
///
/// # Errors
/// [`MountError`], which names the whole path.
pub(crate) fn directory_in_root(root: &OwnedFd, path: &str) -> Result<OwnedFd, MountError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let open = || open_in_root(root, path, flags).map_err(CallError::on("open the directory", path));
    match open_in_root(root, path, flags) {
        Err(Errno::ENOENT) => {}
        Ok(directory) => return Ok(directory),
        Err(_) => return Ok(open()?),
    }
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    let parent = directory_in_root(root, if parent.is_empty() { "/" } else { parent })?;
    match mkdirat(&parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(open()?),
        Err(Errno::EROFS) => Err(MountError::NoMountPoint { path: path.to_owned() }),
        Err(errno) => Err(CallError::on("make the directory", path)(errno).into()),
    }
}

/// Opens `path` as a process whose root is `root` would.
pub(crate) fn open_in_root(root: &OwnedFd, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let mode = if flags.contains(OFlag::O_CREAT) { Mode::from_bits_truncate(0o644) } else { Mode::empty() };
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).mode(mode).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    openat2(root, path, how)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Cause;
    use std::os::unix::fs::symlink;

    fn image() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(directory.path()).unwrap().into();
        (directory, root)
    }

    #[test]
    fn a_mount_point_is_made_with_its_parents() {
        let (directory, root) = image();
        directory_in_root(&root, "/a/b/c").unwrap();
        assert!(directory.path().join("a/b/c").is_dir());
    }

    #[test]
    fn a_link_that_leads_out_of_the_image_stays_inside() {
        let (directory, root) = image();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), directory.path().join("data")).unwrap();
        symlink("../../../..", directory.path().join("up")).unwrap();
        // The link's target does not exist inside the image, and is not made outside.
        assert!(directory_in_root(&root, "/data/x").is_err());
        assert!(std::fs::read_dir(outside.path()).unwrap().next().is_none());
        directory_in_root(&root, "/up/inside").unwrap();
        assert!(directory.path().join("inside").is_dir());
    }

    #[test]
    fn an_absolute_link_means_a_place_in_the_image() {
        let (directory, root) = image();
        std::fs::create_dir(directory.path().join("real")).unwrap();
        symlink("/real", directory.path().join("link")).unwrap();
        directory_in_root(&root, "/link/x").unwrap();
        assert!(directory.path().join("real/x").is_dir());
    }

    #[test]
    fn a_file_where_a_directory_should_be_is_named() {
        let (directory, root) = image();
        std::fs::write(directory.path().join("file"), "").unwrap();
        let error = directory_in_root(&root, "/file").unwrap_err();
        assert_eq!((error.errno(), error.path()), (Some(Errno::ENOTDIR), Some("/file")));
    }
}
