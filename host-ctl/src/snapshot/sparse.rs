//! Files with holes: where their data is, and copies that have the same holes. Source: `lseek(2)`,
//! `copy_file_range(2)`.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{SeekFrom, copy_file_range, seek};

/// Bytes copied by one call.
const CHUNK: u64 = 1 << 26;

/// Copies a file, holes as holes.
///
/// # Errors
/// As the system calls; the target must not exist.
pub(super) fn copy(source: &Path, target: &Path) -> io::Result<()> {
    let from = File::open(source)?;
    let into = File::options().write(true).create_new(true).open(target)?;
    let length = from.metadata()?.len();
    into.set_len(length)?;
    let mut at = 0;
    while let Some((start, end)) = data(&from, at, length)? {
        let (mut read, mut written) = (start, start);
        while read < end {
            let want = usize::try_from((end - read).min(CHUNK)).unwrap_or(usize::MAX);
            if copy_file_range(&from, Some(&mut read), &into, Some(&mut written), want)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        at = end;
    }
    Ok(())
}

/// The next stretch of data at or after `at`, of a file that is `length` long.
///
/// # Errors
/// As `lseek(2)`.
pub(super) fn data(file: &File, at: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= length {
        return Ok(None);
    }
    match seek(file, SeekFrom::Data(at)) {
        Ok(start) => Ok(Some((start, seek(file, SeekFrom::Hole(start))?.min(length)))),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    #[test]
    fn a_copy_is_the_same_and_as_sparse() {
        let dir = tempfile::tempdir().unwrap();
        let [source, target] = ["source", "target"].map(|name| dir.path().join(name));
        let file = File::create(&source).unwrap();
        file.set_len(8 << 20).unwrap();
        file.write_all_at(b"middle", 4 << 20).unwrap();
        file.write_all_at(b"end", (8 << 20) - 3).unwrap();
        copy(&source, &target).unwrap();
        assert_eq!(std::fs::read(&source).unwrap(), std::fs::read(&target).unwrap());
        assert!(target.metadata().unwrap().blocks() < (1 << 20) / 512, "holes were filled");
    }
}
