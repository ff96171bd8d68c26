//! Freezing the file systems that are on disks. Source: `ioctl_fsfreeze`, `FIFREEZE` in `linux/fs.h`, and
//! `proc_pid_mountinfo(5)`.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use firstlight_protocol::message::error::AgentError;

use crate::{failure, sys};

const MOUNTS: &str = "/proc/self/mountinfo";

/// What is frozen, written down before it is: an agent that is started again thaws it.
#[derive(Debug)]
pub struct FrozenFile(PathBuf);

impl FrozenFile {
    pub(super) fn new(path: PathBuf) -> FrozenFile {
        FrozenFile(path)
    }

    /// Freezes every file system on a disk that can be written. When one refuses, those before it are thawed.
    pub(super) fn freeze(&self) -> Result<(), AgentError> {
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| failure::system(operation, Some(&path), &error)
        };
        let mounts = fs::read(MOUNTS).map_err(failed("read", Path::new(MOUNTS)))?;
        let targets = targets(&mounts);
        fs::write(&self.0, targets.join(&b'\n')).map_err(failed("write", &self.0))?;
        for target in &targets {
            let path = path(target);
            let frozen = File::open(&path).and_then(|directory| sys::freeze(&directory));
            if let Err(error) = frozen.or_else(|error| ignore(error, libc::EOPNOTSUPP)) {
                let _ = self.thaw();
                return Err(failure::system("freeze", Some(&path), &error));
            }
        }
        Ok(())
    }

    /// Thaws what was frozen; what is not frozen any more is left alone.
    pub(super) fn thaw(&self) -> Result<(), AgentError> {
        let targets = match fs::read(&self.0) {
            Ok(targets) => targets,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failure::system("read", Some(&self.0), &error)),
        };
        let mut failed = None;
        for target in targets.rsplit(|byte| *byte == b'\n').filter(|target| !target.is_empty()) {
            let path = path(target);
            let thawed = File::open(&path).and_then(|directory| sys::thaw(&directory));
            if let Err(error) = thawed.or_else(|error| ignore(error, libc::EINVAL)) {
                failed.get_or_insert(failure::system("thaw", Some(&path), &error));
            }
        }
        match failed {
            Some(error) => Err(error),
            None => {
                fs::remove_file(&self.0).map_err(|error| failure::system("remove", Some(&self.0), &error))
            }
        }
    }
}

fn ignore(error: io::Error, errno: i32) -> io::Result<()> {
    if error.raw_os_error() == Some(errno) { Ok(()) } else { Err(error) }
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec(bytes.to_vec()))
}

/// Where each writable file system on a disk is mounted, one place for each.
fn targets(mounts: &[u8]) -> Vec<Vec<u8>> {
    let mut devices = Vec::new();
    let mut targets = Vec::new();
    for line in mounts.split(|byte| *byte == b'\n') {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        // Optional fields end at a lone hyphen.
        let Some(separator) = fields.iter().position(|field| *field == b"-") else { continue };
        let (Some(device), Some(target)) = (fields.get(2), fields.get(4)) else { continue };
        let (Some(source), Some(options)) = (fields.get(separator + 2), fields.get(separator + 3)) else {
            continue;
        };
        let writable = options.split(|byte| *byte == b',').any(|option| option == b"rw");
        if writable && source.starts_with(b"/dev/") && !devices.contains(device) {
            devices.push(device);
            targets.push(unescape(target));
        }
    }
    targets
}

/// Spaces, tabs, newlines and backslashes are three octal digits after a backslash.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *first == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writable_file_systems_on_disks_are_frozen_and_each_once() {
        let mounts = b"22 1 0:20 / / rw shared:1 - overlay overlay rw,lowerdir=/l\n\
            23 22 254:16 / /data\\040two rw,relatime - ext4 /dev/vdb rw\n\
            24 22 254:16 / /again rw - ext4 /dev/vdb rw\n\
            25 22 254:0 / /ro ro - erofs /dev/vda ro\n\
            26 22 0:21 / /run rw - tmpfs tmpfs rw,mode=755\n";
        assert_eq!(targets(mounts), [b"/data two".to_vec()]);
    }

    #[test]
    fn what_is_no_mount_is_passed_over() {
        assert!(targets(b"").is_empty());
        assert!(targets(b"1 2 3 - a\n- - -\n").is_empty());
    }
}
