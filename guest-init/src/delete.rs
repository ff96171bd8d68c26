//! Deleting what is in a directory: never through a symbolic link, and never on another file system.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Directories inside directories that are gone down, so that no archive can exhaust the stack.
const MAX_DEPTH: u32 = 32;

/// Deletes everything in `directory` but the paths in `kept`, which are relative to it, and what is mounted in it.
///
/// # Errors
/// The first that is met; what stands before it is gone.
pub(crate) fn delete_contents(directory: &OwnedFd, kept: &[&str]) -> nix::Result<()> {
    let device = fstat(directory)?.st_dev;
    delete_below(directory, "", kept, device, MAX_DEPTH)
}

/// Deletes what is in `directory`, whose path below the top is `path`.
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
        if is_directory(&stat) {
            // Directories alone: on an overlay, files have the device of the layer they are in.
            if stat.st_dev != device {
                continue;
            }
            if depth > 0 {
                let below = nix::fcntl::openat(directory, name.as_c_str(), flags, Mode::empty())?;
                delete_below(&below, &inside, kept, device, depth - 1)?;
            }
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
