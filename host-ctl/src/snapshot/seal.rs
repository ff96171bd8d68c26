//! Whether a file is the one that was saved.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use firstlight_protocol::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Bytes read at a time.
const CHUNK: usize = 1 << 18;

/// A file's length and contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Its length in bytes.
    pub length: u64,
    /// The SHA-256 of its contents.
    pub sha256: String,
}

impl Seal {
    /// The seal of the file at `path`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(path: &Path) -> io::Result<Seal> {
        let mut file = File::open(path)?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let mut length = 0;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(Seal { length, sha256: hex::encode(&hash.finalize()) });
            }
            hash.update(&buffer[..count]);
            length += count as u64;
        }
    }
}

/// Whether the file at `path` is what `seal` says; the length is looked at first, so that a truncated file costs nothing.
///
/// # Errors
/// It cannot be read. What differs is an inner error, in words.
pub fn verify(path: &Path, seal: &Seal) -> io::Result<Result<(), String>> {
    let length = path.metadata()?.len();
    if length != seal.length {
        return Ok(Err(format!("it has {length} bytes instead of {}", seal.length)));
    }
    let differs = Seal::of(path)? != *seal;
    Ok(if differs { Err("its contents have changed".into()) } else { Ok(()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_that_changed_or_is_missing_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory");
        std::fs::write(&path, vec![7; CHUNK + 1]).unwrap();
        let seal = Seal::of(&path).unwrap();
        assert_eq!(verify(&path, &seal).unwrap(), Ok(()));
        let mut bytes = vec![7; CHUNK + 1];
        bytes[CHUNK] = 8;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(verify(&path, &seal).unwrap(), Err("its contents have changed".into()));
        std::fs::write(&path, [7]).unwrap();
        assert!(verify(&path, &seal).unwrap().unwrap_err().contains("1 bytes instead of"));
    }
}
