//! Files that are read as a whole.

use std::fs::File;
use std::io::Read as _;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::error::CallError;

/// Bytes most of them have at most, so that reading one needs no second buffer.
const USUAL_BYTES: usize = 4 << 10;

/// Reads the file at `path`, or its first `limit` bytes; `None` when there is none. It is not asked for its size, which a
/// device would not tell.
///
/// # Errors
/// [`CallError`], which names the file.
pub(crate) fn read(path: &str, limit: u64) -> Result<Option<Vec<u8>>, CallError> {
    let file = match open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(CallError::on("open", path)(errno)),
    };
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    file.take(limit).read_to_end(&mut bytes).map_err(CallError::io("read", path))?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_the_limit_and_a_missing_one_is_no_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [7; 2 * USUAL_BYTES]).unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(read(path, u64::MAX).unwrap().unwrap(), [7; 2 * USUAL_BYTES]);
        assert_eq!(read(path, 5).unwrap().unwrap(), [7; 5]);
        assert_eq!(read("/no/such/file", 5).unwrap(), None);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        use crate::error::Cause as _;
        let error = read("/proc/self", 5).unwrap_err();
        assert_eq!((error.errno(), error.path()), (Some(Errno::EISDIR), Some("/proc/self")));
    }
}
