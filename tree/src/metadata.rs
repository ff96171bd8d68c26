//! A file's metadata: read for the wire, and set from it.

use std::os::fd::AsFd;

use firstlight_protocol::message::copy::Entry;
use firstlight_protocol::message::file::{FileKind, Metadata, Timestamp};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, chownat, fchmod, fchown,
    futimens, utimensat,
};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use crate::attributes;

/// The set-user-id and set-group-id bits.
const SET_ID: u32 = 0o6000;

/// The permissions that mean the same whoever owns a file.
pub(crate) const PLAIN_MODE: u32 = 0o1777;

/// What `stat(2)` says, for the wire.
pub(crate) fn describe(stat: &Stat) -> Metadata {
    Metadata {
        kind: kind_of(stat),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        // In units of 512 bytes whatever the file system's blocks are: stat(2).
        allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
        modified: modified(stat),
        links: stat.st_nlink,
        inode: stat.st_ino,
    }
}

/// What a file is.
pub(crate) fn kind_of(stat: &Stat) -> FileKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::CharacterDevice => FileKind::CharDevice,
        FileType::BlockDevice => FileKind::BlockDevice,
        FileType::RegularFile | FileType::Unknown => FileKind::File,
    }
}

/// When the content last changed.
pub(crate) fn modified(stat: &Stat) -> Timestamp {
    Timestamp { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) }
}

/// Whether this process may give files to others.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// Gives an open file or directory all that an entry says of it, and counts the attributes it does not take.
///
/// In the one order that works: a change of owner takes set-id bits and capabilities away, and a mode may take the right
/// to set attributes.
pub(crate) fn apply(file: impl AsFd, entry: &Entry) -> Result<u64, Errno> {
    if is_root() {
        fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
    }
    let lost = attributes::write(&file, &entry.attributes)?;
    fchmod(&file, Mode::from_raw_mode(mode_to_set(entry)))?;
    futimens(&file, &times(entry.modified))?;
    Ok(lost)
}

/// Whoever cannot give a file to its owner must not make a program that runs as themselves of it.
fn mode_to_set(entry: &Entry) -> u32 {
    let ours = geteuid().as_raw() == entry.uid && getegid().as_raw() == entry.gid;
    if is_root() || ours { entry.mode } else { entry.mode & !SET_ID }
}

/// Gives a symbolic link the owner and time of an entry; links have no mode.
pub(crate) fn apply_to_link(directory: impl AsFd, name: &[u8], entry: &Entry) -> Result<(), Errno> {
    if is_root() {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        chownat(&directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    utimensat(&directory, name, &times(entry.modified), AtFlags::SYMLINK_NOFOLLOW)
}

/// Gives an open file or directory a mode without set-id bits, and the time of its last change.
pub(crate) fn set_mode_and_time(file: impl AsFd, mode: u32, modified: Timestamp) -> Result<(), Errno> {
    fchmod(&file, Mode::from_raw_mode(mode & PLAIN_MODE))?;
    futimens(&file, &times(modified))
}

/// When something was read is nobody's business but this machine's.
fn times(modified: Timestamp) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: modified.seconds, tv_nsec: i64::from(modified.nanos) },
    }
}
