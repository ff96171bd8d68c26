//! Whether a file is the one that was saved: by every byte of it, or by what changes with every write to it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use firstlight_protocol::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::SnapshotError;
use super::sparse::data;

/// Bytes that are taken together. A block of zeros counts for nothing, so that a disk that is mostly holes costs what is
/// in it, and is the same file wherever a file system made its holes.
const BLOCK: u64 = 1 << 16;

/// A file's length and contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Its length in bytes.
    pub length: u64,
    /// The SHA-256 of every 64 KiB block that is not all zeros, each after its number.
    pub digest: String,
}

/// A file, and what it was when it was saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The file, relative to the directory it belongs to.
    pub file: PathBuf,
    /// What it was.
    pub seal: Seal,
    /// Where it was, and when it was written last.
    #[serde(default)]
    pub stamp: Option<FileStamp>,
}

/// What changes with every write to a file and with every copy made of it, and stays when it gets another name. Source:
/// `inode(7)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileStamp {
    /// The file system it is in.
    device: u64,
    /// Its number there.
    inode: u64,
    /// Its length in bytes.
    length: u64,
    /// When it was written last, in seconds since 1970, and nanoseconds besides.
    written: (i64, i64),
}

impl FileStamp {
    /// That of the file at `path`.
    ///
    /// # Errors
    /// As `stat(2)`.
    pub fn of(path: &Path) -> io::Result<FileStamp> {
        let metadata = path.metadata()?;
        Ok(FileStamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

impl Seal {
    /// The seal of the file at `path`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(path: &Path) -> io::Result<Seal> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut hash = Sha256::new();
        let mut buffer = Vec::new();
        let mut next = 0;
        while let Some((start, end)) = data(&file, next * BLOCK, length)? {
            for block in start / BLOCK..end.div_ceil(BLOCK) {
                let at = block * BLOCK;
                buffer.resize(usize::try_from(BLOCK.min(length - at)).unwrap_or_default(), 0);
                file.read_exact_at(&mut buffer, at)?;
                if buffer.iter().any(|byte| *byte != 0) {
                    hash.update(block.to_le_bytes());
                    hash.update(&buffer);
                }
            }
            next = end.div_ceil(BLOCK);
        }
        Ok(Seal { length, digest: hex::encode(&hash.finalize()) })
    }
}

impl Sealed {
    /// Seals `file` in `dir`.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn of(dir: &Path, file: &Path) -> Result<Sealed, SnapshotError> {
        let path = dir.join(file);
        let failed = |error| SnapshotError::io("read", &path)(error);
        // Before the bytes: what is written meanwhile is seen later.
        let stamp = FileStamp::of(&path).map_err(failed)?;
        let seal = Seal::of(&path).map_err(failed)?;
        Ok(Sealed { file: file.to_owned(), seal, stamp: Some(stamp) })
    }

    /// Whether the file in `dir` is as long as it was. That costs nothing, and finds what was cut short.
    ///
    /// # Errors
    /// [`SnapshotError::Corrupt`], which names the snapshot and the file.
    pub fn check_length(&self, dir: &Path, snapshot: &str) -> Result<(), SnapshotError> {
        match dir.join(&self.file).metadata() {
            Ok(metadata) if metadata.len() == self.seal.length => Ok(()),
            Ok(metadata) => {
                let reason = format!("it has {} bytes instead of {}", metadata.len(), self.seal.length);
                Err(self.corrupt(snapshot, &reason))
            }
            Err(error) => Err(self.corrupt(snapshot, &error.to_string())),
        }
    }

    /// Whether the file in `dir` is what it was, to the last byte.
    ///
    /// # Errors
    /// [`SnapshotError::Corrupt`], which names the snapshot and the file; [`SnapshotError::Io`] when it cannot be read.
    pub fn check(&self, dir: &Path, snapshot: &str) -> Result<(), SnapshotError> {
        self.check_length(dir, snapshot)?;
        if Sealed::of(dir, &self.file)?.seal == self.seal {
            return Ok(());
        }
        Err(self.corrupt(snapshot, "its contents have changed"))
    }

    /// The same for a file that nobody has written to since it was sealed, at no cost: its bytes are looked at only where that
    /// cannot be said. What the disk does to it behind the file system's back is not found.
    ///
    /// # Errors
    /// As [`Sealed::check`].
    pub fn check_untouched(&self, dir: &Path, snapshot: &str) -> Result<(), SnapshotError> {
        let here = FileStamp::of(&dir.join(&self.file)).ok();
        if here.is_some() && here == self.stamp { Ok(()) } else { self.check(dir, snapshot) }
    }

    fn corrupt(&self, snapshot: &str, reason: &str) -> SnapshotError {
        let reason = format!("{}: {reason}", self.file.display());
        SnapshotError::Corrupt { name: snapshot.to_owned(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One block, in bytes.
    const ONE: usize = 1 << 16;

    const LENGTH: usize = 3 * ONE + 1;

    fn sealed(bytes: &[u8]) -> (tempfile::TempDir, Sealed) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("memory"), bytes).unwrap();
        let sealed = Sealed::of(dir.path(), Path::new("memory")).unwrap();
        (dir, sealed)
    }

    #[test]
    fn a_byte_that_changed_is_seen_wherever_it_is() {
        let (dir, sealed) = sealed(&[7; LENGTH]);
        sealed.check(dir.path(), "golden").unwrap();
        for at in [0, ONE, LENGTH - 1] {
            let mut bytes = vec![7; LENGTH];
            bytes[at] = 8;
            std::fs::write(dir.path().join("memory"), &bytes).unwrap();
            let error = sealed.check(dir.path(), "golden").unwrap_err().to_string();
            assert!(error.contains("\"golden\" is damaged: memory: its contents have changed"), "{error}");
        }
    }

    #[test]
    fn a_file_that_was_written_to_is_looked_at_and_one_that_was_not_is_not() {
        let (dir, sealed) = sealed(&[7; LENGTH]);
        let path = dir.path().join("memory");
        let written = path.metadata().unwrap().modified().unwrap();
        let write =
            |byte: u8| File::options().write(true).open(&path).unwrap().write_all_at(&[byte], 5).unwrap();
        write(8);
        assert!(sealed.check_untouched(dir.path(), "golden").is_err());
        // Nothing tells it from one that was not written to, under whatever name.
        let unwritten = || File::options().write(true).open(&path).unwrap().set_modified(written).unwrap();
        unwritten();
        std::fs::hard_link(&path, dir.path().join("link")).unwrap();
        std::fs::rename(dir.path().join("link"), &path).unwrap();
        sealed.check_untouched(dir.path(), "golden").unwrap();
        // A copy is another file.
        std::fs::copy(&path, dir.path().join("copy")).unwrap();
        std::fs::rename(dir.path().join("copy"), &path).unwrap();
        unwritten();
        assert!(sealed.check_untouched(dir.path(), "golden").is_err());
        write(7);
        sealed.check_untouched(dir.path(), "golden").unwrap();
    }

    #[test]
    fn a_file_that_was_cut_or_is_gone_is_seen_by_its_length() {
        let (dir, sealed) = sealed(&[7; LENGTH]);
        std::fs::write(dir.path().join("memory"), [7]).unwrap();
        let error = sealed.check_length(dir.path(), "golden").unwrap_err().to_string();
        assert!(error.contains("memory: it has 1 bytes instead of"), "{error}");
        std::fs::remove_file(dir.path().join("memory")).unwrap();
        assert!(matches!(sealed.check_length(dir.path(), "golden"), Err(SnapshotError::Corrupt { .. })));
    }

    #[test]
    fn data_that_moved_or_became_zeros_is_seen_and_a_hole_is_as_good_as_zeros() {
        let mut bytes = vec![0; LENGTH];
        bytes[ONE] = 1;
        let (dir, sealed) = sealed(&bytes);
        let path = dir.path().join("memory");
        for other in [vec![0; LENGTH], {
            let mut moved = vec![0; LENGTH];
            moved[2 * ONE] = 1;
            moved
        }] {
            std::fs::write(&path, other).unwrap();
            assert!(sealed.check(dir.path(), "golden").is_err());
        }
        let sparse = File::create(&path).unwrap();
        sparse.set_len(LENGTH as u64).unwrap();
        sparse.write_all_at(&[1], BLOCK).unwrap();
        sealed.check(dir.path(), "golden").unwrap();
    }
}
