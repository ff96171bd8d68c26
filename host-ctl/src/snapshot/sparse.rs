//! Files with holes: where their data is, and copies that have the same holes. Source: `lseek(2)`,
//! `copy_file_range(2)`.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{SeekFrom, copy_file_range, seek};

/// Bytes copied by one call.
const CHUNK: u64 = 1 << 26;

/// Bytes read at a time where zeros are looked for.
const BUFFER: usize = 1 << 18;

/// Bytes that are zeros together, or not.
const PAGE: usize = 1 << 12;

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

/// Writes what of the first `length` bytes of `from` is not zeros into `into`, which is all zeros and as long: its holes
/// stay holes. Unlike [`copy`] it also works from one file system to another, and finds zeros that were written.
///
/// # Errors
/// As the system calls.
pub fn fill(into: &File, from: &File, length: u64) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut next = 0;
    while let Some((start, end)) = data(from, next, length)? {
        let mut at = start;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(BUFFER).min(BUFFER);
            from.read_exact_at(&mut buffer[..want], at)?;
            for run in runs(&buffer[..want]) {
                into.write_all_at(&buffer[run.clone()], at + run.start as u64)?;
            }
            at += want as u64;
        }
        next = end;
    }
    Ok(())
}

/// Where `bytes` are not zeros, in whole pages.
fn runs(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, page) in bytes.chunks(PAGE).enumerate() {
        if page.iter().all(|byte| *byte == 0) {
            continue;
        }
        let start = index * PAGE;
        match runs.last_mut() {
            Some(run) if run.end == start => run.end += page.len(),
            Some(_) | None => runs.push(start..start + page.len()),
        }
    }
    runs
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
    use std::os::unix::fs::MetadataExt as _;

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

    #[test]
    fn a_file_is_filled_with_what_is_not_zeros_and_with_nothing_else() {
        let [source, target] = [(); 2].map(|()| tempfile::tempfile().unwrap());
        let length = 4 * BUFFER as u64 + 5;
        source.set_len(length).unwrap();
        target.set_len(length).unwrap();
        // Zeros that were written, data in the middle of a page, over the end of a buffer, and at the very end.
        source.write_all_at(&vec![0; BUFFER], 0).unwrap();
        source.write_all_at(b"page", PAGE as u64 + 7).unwrap();
        source.write_all_at(&[1; 2 * PAGE], (BUFFER - PAGE) as u64).unwrap();
        source.write_all_at(b"end", length - 3).unwrap();
        fill(&target, &source, length).unwrap();
        let read = |file: &File| {
            let mut bytes = vec![0; usize::try_from(length).unwrap()];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert!(read(&source) == read(&target), "they differ");
        let pages = target.metadata().unwrap().blocks() * 512 / PAGE as u64;
        assert!(pages <= 8, "{pages} pages instead of four");
    }
}
