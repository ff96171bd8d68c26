//! Adds a directory of the host to an archive.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::cpio::{Access, Archive, Kind};

/// Adds what is in `source` below the guest's `destination`, in the order of the names' bytes, with each entry's
/// mode and owner. Hard links become copies; times are not kept.
///
/// # Errors
/// [`Error::Io`] for what cannot be read, [`Error::Entry`] for what does not fit the archive.
pub fn add(archive: &mut Archive, source: &Path, destination: &Path) -> Result<(), Error> {
    let metadata = fs::metadata(source).map_err(Error::io("read", source))?;
    archive.add(destination, access(&metadata), Kind::Directory)?;

    // A stack instead of recursion: a deep tree must not be able to overflow the thread's.
    let mut pending = vec![(source.to_owned(), destination.to_owned())];
    while let Some((source, destination)) = pending.pop() {
        for path in sorted_entries(&source)? {
            let metadata = fs::symlink_metadata(&path).map_err(Error::io("read", &path))?;
            let target = destination.join(path.file_name().unwrap_or_default());
            add_entry(archive, &path, &target, &metadata)?;
            if metadata.is_dir() {
                pending.push((path, target));
            }
        }
    }
    Ok(())
}

fn sorted_entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let error = || Error::io("list", directory);
    let mut entries = fs::read_dir(directory)
        .map_err(error())?
        .map(|entry| entry.map(|entry| entry.path()).map_err(error()))
        .collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    Ok(entries)
}

fn add_entry(archive: &mut Archive, path: &Path, target: &Path, metadata: &Metadata) -> Result<(), Error> {
    let access = access(metadata);
    let file_type = metadata.file_type();
    let (major, minor) = device_numbers(metadata.rdev());
    if file_type.is_dir() {
        archive.add(target, access, Kind::Directory)
    } else if file_type.is_symlink() {
        let link = fs::read_link(path).map_err(Error::io("read the link", path))?;
        archive.add(target, access, Kind::Symlink(&link))
    } else if file_type.is_char_device() {
        archive.add(target, access, Kind::CharDevice { major, minor })
    } else if file_type.is_block_device() {
        archive.add(target, access, Kind::BlockDevice { major, minor })
    } else if file_type.is_fifo() {
        archive.add(target, access, Kind::Fifo)
    } else if file_type.is_socket() {
        archive.add(target, access, Kind::Socket)
    } else {
        let contents = fs::read(path).map_err(Error::io("read", path))?;
        archive.add(target, access, Kind::File(&contents))
    }
}

fn access(metadata: &Metadata) -> Access {
    Access { mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() }
}

/// Splits a `dev_t`. Source: `makedev(3)`, whose layout in glibc is twelve and twenty bits each in two parts.
fn device_numbers(device: u64) -> (u32, u32) {
    let part = |shift: u32, mask: u64| u32::try_from((device >> shift) & mask).unwrap_or_default();
    let major = part(8, 0xfff) | part(32, 0xffff_f000);
    let minor = part(0, 0xff) | part(12, 0xffff_ff00);
    (major, minor)
}

#[cfg(test)]
mod tests;
