//! The file systems every boot begins with.

use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use super::mounts::make_directory;
use crate::error::CallError;

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

/// The mounts that move along into the new root, parents of all others in [`EARLY`].
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
pub(crate) fn mount_all() -> Result<(), CallError> {
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
