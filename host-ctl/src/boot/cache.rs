//! Files made once and used by many boots, under a fingerprint of what they are made from.
//!
//! A file's device, inode, size and times stand for its contents: the kernel moves a file's change time at every write,
//! and nobody can set it back.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use firstlight_protocol::hex;
use sha2::{Digest as _, Sha256};

/// A file of the cache could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", .path.display())]
pub struct CacheError {
    /// What was being done.
    operation: &'static str,
    /// The file.
    path: PathBuf,
    /// The cause.
    source: io::Error,
}

/// A fingerprint in the making.
pub(super) struct Fingerprint(Sha256);

impl Fingerprint {
    /// Begins one. `format` is another number for another way of making the file.
    pub(super) fn new(format: u8) -> Fingerprint {
        Fingerprint(Sha256::new().chain_update([format]))
    }

    /// Adds a file, or that there is none.
    pub(super) fn file(&mut self, file: Option<&Path>) -> Result<(), CacheError> {
        let Some(file) = file else {
            self.0.update([0]);
            return Ok(());
        };
        let metadata = fs::metadata(file).map_err(failed("look at", file))?;
        self.0.update([1]);
        for number in [metadata.dev(), metadata.ino(), metadata.size()] {
            self.0.update(number.to_le_bytes());
        }
        for number in [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()] {
            self.0.update(number.to_le_bytes());
        }
        Ok(())
    }

    /// Adds a word.
    pub(super) fn word(&mut self, word: &str) {
        self.0.update(word);
        self.0.update([0]);
    }

    /// The fingerprint as a file name.
    pub(super) fn finish(self) -> String {
        hex::encode(&self.0.finalize())
    }
}

/// Puts `bytes` at `path`, in a directory that keeps `kept` files. Another process may make the same file now; whoever
/// is last wins, with the same bytes.
pub(super) fn put(path: &Path, bytes: &[u8], kept: usize) -> Result<(), CacheError> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory).map_err(failed("make", directory))?;
    forget_oldest(directory, kept);
    let suffix = crate::random::bytes::<4>().map_err(failed("name", path))?;
    let temporary = path.with_extension(format!("{}.part", hex::encode(&suffix)));
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        failed("write", path)(source)
    })
}

/// Makes room. A boot that is about to use a file which goes now makes it again.
fn forget_oldest(directory: &Path, kept: usize) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let age = |entry: &fs::DirEntry| entry.metadata().and_then(|metadata| metadata.modified()).ok();
    let mut files: Vec<_> = entries.flatten().map(|entry| (age(&entry), entry.path())).collect();
    files.sort();
    let surplus = (files.len() + 1).saturating_sub(kept);
    for (_, path) in files.iter().take(surplus) {
        let _ = fs::remove_file(path);
    }
}

/// For `map_err`.
pub(super) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
    let path = path.to_owned();
    move |source| CacheError { operation, path, source }
}
