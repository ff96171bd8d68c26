//! Doing what the plan's mounts say, and the file systems every boot begins with.

use std::os::fd::{AsRawFd, OwnedFd};

use firstlight_protocol::boot_spec::Disk;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::mkdir;

use super::devices::{DeviceError, Devices};
use crate::error::{CallError, Cause};
use crate::plan::{Mount, Place, What};

/// Something could not be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("cannot mount it as {file_system}: {}", errno.desc())]
    Disk { device: String, file_system: &'static str, errno: Errno },
    #[error("a read-only root without this directory; make it in the image or add an upper layer")]
    NoMountPoint { path: String },
}

impl Cause for MountError {
    fn errno(&self) -> Option<Errno> {
        match self {
            MountError::Call(error) => error.errno(),
            MountError::Device(error) => error.errno(),
            MountError::Disk { errno, .. } => Some(*errno),
            MountError::NoMountPoint { .. } => Some(Errno::EROFS),
        }
    }

    fn path(&self) -> Option<&str> {
        match self {
            MountError::Call(error) => error.path(),
            MountError::Device(error) => error.path(),
            MountError::Disk { device: path, .. } | MountError::NoMountPoint { path } => Some(path),
        }
    }
}

struct Early {
    source: &'static str,
    target: &'static str,
    flags: MsFlags,
    options: Option<&'static str>,
}

const fn early(
    source: &'static str,
    target: &'static str,
    flags: MsFlags,
    options: Option<&'static str>,
) -> Early {
    Early { source, target, flags, options }
}

const PLAIN: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);
const INERT: MsFlags = PLAIN.union(MsFlags::MS_NODEV);

/// What every boot mounts first, parents before children. The source is the file system's type as well.
const EARLY: [Early; 7] = [
    early("devtmpfs", "/dev", PLAIN, None),
    early("proc", "/proc", INERT, None),
    early("sysfs", "/sys", INERT, None),
    early("tmpfs", "/run", MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV), Some("mode=0755")),
    early("devpts", "/dev/pts", PLAIN, Some("mode=0620,gid=5,ptmxmode=0666")),
    early("tmpfs", "/dev/shm", MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV), Some("mode=1777")),
    early("cgroup2", "/sys/fs/cgroup", INERT, Some("nsdelegate")),
];

/// The mounts that move along into the new root, parents of all others in [`EARLY`]. `/proc` is last, because the
/// others are moved through `/proc/self/fd`.
pub(crate) const MOVED: [&str; 4] = ["/dev", "/sys", "/run", "/proc"];

/// Names in `/dev` that programs expect and the kernel does not make.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Mounts what every boot begins with.
///
/// # Errors
/// The first [`CallError`].
pub(crate) fn mount_early() -> Result<(), CallError> {
    for Early { source, target, flags, options } in EARLY {
        make_directory(target, Mode::from_bits_truncate(0o755))?;
        mount(Some(source), target, Some(source), flags, options).map_err(CallError::on("mount", target))?;
    }
    for (target, link) in LINKS {
        match std::os::unix::fs::symlink(target, link) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(CallError::io("symlink", link)(error)),
        }
    }
    make_directory("/run/firstlight", Mode::S_IRWXU)
}

/// Makes a directory of init's own, with those it is in.
pub(crate) fn make_directory(path: &str, mode: Mode) -> Result<(), CallError> {
    match mkdir(path, mode) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(Errno::ENOENT) => {
            let parent = path.rsplit_once('/').map(|(parent, _)| parent).filter(|parent| !parent.is_empty());
            let parent = parent.ok_or_else(|| CallError::on("mkdir", path)(Errno::ENOENT))?;
            make_directory(parent, mode)?;
            mkdir(path, mode).map_err(CallError::on("mkdir", path))
        }
        Err(errno) => Err(CallError::on("mkdir", path)(errno)),
    }
}

/// Does the mounts in order. A disk that is missing is waited for up to `device_timeout_ms` milliseconds.
///
/// # Errors
/// The first [`MountError`]. What was mounted before it stays; the teardown takes it away.
pub(crate) fn perform(mounts: &[Mount], devices: &Devices, device_timeout_ms: u32) -> Result<(), MountError> {
    let result = mounts.iter().try_for_each(|step| perform_one(step, devices, device_timeout_ms));
    for step in mounts.iter().rev() {
        if let Place::Passing(path) = &step.place {
            // An overlay keeps its layers; only their places in the mount table go.
            let detached = umount2(path.as_str(), MntFlags::MNT_DETACH);
            if result.is_ok() {
                detached.map_err(CallError::on("umount", path))?;
            }
        }
    }
    result
}

fn perform_one(step: &Mount, devices: &Devices, device_timeout_ms: u32) -> Result<(), MountError> {
    // Before the mount point is made: a missing disk should leave no trace.
    let source = match &step.what {
        What::Disk(disk) => devices.disk(&disk.serial, device_timeout_ms)?,
        What::Bind(path) => path.clone(),
        What::Scratch => "tmpfs".to_owned(),
        What::Overlay { .. } => "overlay".to_owned(),
    };
    let (path, target) = match &step.place {
        Place::Own(path) | Place::Passing(path) => {
            make_directory(path, Mode::from_bits_truncate(0o755))?;
            (path, None)
        }
        Place::InRoot(path) => (path, Some(directory_in_root(&root_of_process()?, path)?)),
    };
    // Through its descriptor, a place in the image is the one that was resolved, whatever its path means by now.
    let target = target.as_ref().map_or_else(|| path.clone(), through_proc);
    let read_only = if step.read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    let mount = |kind: Option<&str>, flags, options: Option<&str>| {
        mount(Some(source.as_str()), target.as_str(), kind, flags, options)
    };
    match &step.what {
        What::Disk(Disk { serial, file_system }) => {
            let failed = |errno| MountError::Disk {
                device: format!("{source} (serial {serial})"),
                file_system: file_system.name(),
                errno,
            };
            mount(Some(file_system.name()), read_only, None).map_err(failed)
        }
        What::Scratch => {
            let mounted = mount(Some("tmpfs"), read_only, Some("mode=0755"));
            Ok(mounted.map_err(CallError::on("mount tmpfs", path))?)
        }
        What::Bind(directory) => {
            // Flags of a bind mount take a second call. Source: mount(2).
            let remount = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | read_only;
            let mounted = mount(None, MsFlags::MS_BIND, None).and_then(|()| mount(None, remount, None));
            Ok(mounted.map_err(CallError::on("bind", directory))?)
        }
        What::Overlay { lower, scratch } => {
            let (upper, work) = (format!("{scratch}/upper"), format!("{scratch}/work"));
            upper_layer(lower, &upper, &work).map_err(CallError::on("make the upper layer of", lower))?;
            let options =
                format!("lowerdir={},upperdir={},workdir={}", escape(lower), escape(&upper), escape(&work));
            let mounted = mount(Some("overlay"), read_only, Some(&options));
            Ok(mounted.map_err(CallError::on("mount an overlay of", lower))?)
        }
    }
}

/// Makes the two directories of an upper layer. The root of an overlay has the owner and mode of its upper
/// directory, so a new one takes those of the lower.
fn upper_layer(lower: &str, upper: &str, work: &str) -> nix::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let as_errno = |error: std::io::Error| crate::error::io_errno(&error);
    match mkdir(work, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    match mkdir(upper, Mode::S_IRWXU) {
        Err(Errno::EEXIST) => return Ok(()),
        other => other?,
    }
    let like = std::fs::metadata(lower).map_err(as_errno)?;
    std::os::unix::fs::chown(upper, Some(like.uid()), Some(like.gid())).map_err(as_errno)?;
    std::fs::set_permissions(upper, std::fs::Permissions::from_mode(like.mode() & 0o7777)).map_err(as_errno)
}

/// A path as it stands in an overlay's options. Source: the kernel's overlayfs document.
fn escape(path: &str) -> String {
    path.chars().fold(String::with_capacity(path.len()), |mut escaped, character| {
        if matches!(character, '\\' | ',' | ':') {
            escaped.push('\\');
        }
        escaped.push(character);
        escaped
    })
}

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
    let open = || open_in_root(root, path, flags).map_err(CallError::on("open the mount point", path));
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
        Err(errno) => Err(CallError::on("make the mount point", path)(errno).into()),
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

    #[test]
    fn separators_in_a_path_do_not_end_an_overlay_option() {
        assert_eq!(escape("/a:b,c\\d"), "/a\\:b\\,c\\\\d");
    }
}
