//! Doing what the plan's mounts say.

use firstlight_protocol::boot_spec::Disk;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, stat};
use nix::unistd::mkdir;

use super::devices::{DeviceError, Devices};
use super::in_root::{directory_in_root, root_of_process, through_proc};
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
    use std::os::unix::fs::PermissionsExt;
    let as_errno = |error: std::io::Error| crate::error::io_errno(&error);
    match mkdir(work, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    match mkdir(upper, Mode::S_IRWXU) {
        Err(Errno::EEXIST) => return Ok(()),
        other => other?,
    }
    let like = stat(lower)?;
    std::os::unix::fs::chown(upper, Some(like.st_uid), Some(like.st_gid)).map_err(as_errno)?;
    std::fs::set_permissions(upper, std::fs::Permissions::from_mode(like.st_mode & 0o7777)).map_err(as_errno)
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

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn separators_in_a_path_do_not_end_an_overlay_option() {
        assert_eq!(escape("/a:b,c\\d"), "/a\\:b\\,c\\\\d");
    }
}
