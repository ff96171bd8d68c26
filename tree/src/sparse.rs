//! Where a file has holes.

use std::os::fd::AsFd;

use firstlight_protocol::message::copy::{Extent, MAX_EXTENTS};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// The pieces of a file of `size` bytes that hold data, in order. `allocated` bytes of storage tell dense files apart
/// without a system call.
pub(crate) fn extents(file: impl AsFd, size: u64, allocated: u64) -> Result<Vec<Extent>, Errno> {
    if size == 0 {
        return Ok(Vec::new());
    }
    if allocated >= size {
        return Ok(vec![Extent { offset: 0, length: size }]);
    }
    let mut extents = Vec::new();
    let mut position = 0;
    while position < size {
        let start = match seek(&file, SeekFrom::Data(position)) {
            Ok(start) => start.min(size),
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        let last = extents.len() + 1 == MAX_EXTENTS;
        let end = if last { size } else { hole(&file, start, size)? };
        if end > start {
            extents.push(Extent { offset: start, length: end - start });
        }
        position = end;
    }
    Ok(extents)
}

/// Where the data at `start` ends, in a file that is taken to have `size` bytes though it may have changed.
fn hole(file: impl AsFd, start: u64, size: u64) -> Result<u64, Errno> {
    match seek(file, SeekFrom::Hole(start)) {
        Ok(end) => Ok(end.min(size)),
        Err(Errno::NXIO) => Ok(size),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    const MIB: u64 = 1 << 20;

    fn of(file: &File) -> Vec<Extent> {
        let metadata = file.metadata().unwrap();
        extents(file, metadata.len(), metadata.blocks() * 512).unwrap()
    }

    #[test]
    fn data_is_found_between_holes() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(9 * MIB).unwrap();
        assert_eq!(of(&file), []);
        for offset in [2 * MIB, 5 * MIB] {
            file.write_all_at(&[1; 4096], offset).unwrap();
        }
        let expected = [2 * MIB, 5 * MIB].map(|offset| Extent { offset, length: 4096 });
        assert_eq!(of(&file), expected);
    }

    #[test]
    fn a_file_with_too_many_holes_is_dense_from_the_last_piece_on() {
        let file = tempfile::tempfile().unwrap();
        let step = 64 * 1024;
        let pieces = MAX_EXTENTS as u64 + 10;
        file.set_len(pieces * step).unwrap();
        for piece in 0..pieces {
            file.write_all_at(&[1], piece * step).unwrap();
        }
        let extents = of(&file);
        assert_eq!(extents.len(), MAX_EXTENTS);
        let last = extents.last().unwrap();
        assert_eq!(last.offset + last.length, pieces * step);
    }
}
