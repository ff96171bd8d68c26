//! Reading the small text files of `/proc`, `/sys` and `/etc`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use firstlight_protocol::message::error::AgentError;

use crate::failure;

/// Most bytes read of one file. The longest, a table of mounts, has some hundred bytes a line; what is beyond is not
/// looked at.
const MAX_FILE: u64 = 256 * 1024;

/// The file's text, with bytes that are not UTF-8 replaced.
///
/// # Errors
/// As `open(2)` and `read(2)`, with the path.
pub fn read(path: impl AsRef<Path>) -> Result<String, AgentError> {
    let path = path.as_ref();
    read_bytes(path).map_err(|error| failure::system("read", Some(path), &error))
}

/// The file's text, or `None` where this kernel or image has no such file.
///
/// # Errors
/// As [`read`], but for a file that does not exist, or that the kernel has switched off (`EOPNOTSUPP`).
pub fn read_optional(path: impl AsRef<Path>) -> Result<Option<String>, AgentError> {
    let path = path.as_ref();
    match read_bytes(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported) => {
            Ok(None)
        }
        Err(error) => Err(failure::system("read", Some(path), &error)),
    }
}

fn read_bytes(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
