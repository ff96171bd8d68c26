//! Copies of disk images that take no more room than the original.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;

use super::ImageError;

/// Copies the file `from` to the new file `to`, holes included. File systems that can share the blocks do.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), ImageError> {
    let source = File::open(from).map_err(|error| ImageError::io("open", from, error))?;
    let result = File::options().write(true).create_new(true).open(to).and_then(|copy| fill(&source, &copy));
    result.map_err(|error| {
        // What cannot be removed now is in a directory that goes.
        let _ = fs::remove_file(to);
        ImageError::io("copy an image to", to, error)
    })
}

fn fill(source: &File, copy: &File) -> io::Result<()> {
    let metadata = source.metadata()?;
    copy.set_len(metadata.len())?;
    copy.set_permissions(metadata.permissions())?;
    let mut position = 0;
    while position < metadata.len() {
        let start = match seek(source, SeekFrom::Data(position)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        position = seek(source, SeekFrom::Hole(start))?;
        copy_piece(source, copy, start, position)?;
    }
    Ok(())
}

fn copy_piece(source: &File, copy: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut from, mut to) = (start, start);
    while from < end {
        let length = usize::try_from(end - from).unwrap_or(usize::MAX);
        if copy_file_range(source, Some(&mut from), copy, Some(&mut to), length)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"start", 0).unwrap();
        file.write_all_at(b"middle", 32 << 20).unwrap();
        copy(&from, &to).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20, "the holes were filled");
    }

    #[test]
    fn a_file_that_is_there_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        fs::write(&from, "new").unwrap();
        fs::write(&to, "old").unwrap();
        assert!(copy(&from, &to).is_err());
    }
}
