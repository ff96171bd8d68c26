//! The files of a boot.

use std::fs;
use std::io;
use std::path::Path;

use crate::vm::vm_dir::name;

/// What stays of a boot: the words of its processes.
const KEPT: &str = "log";

/// Removes a file that may be missing.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes what a boot left in `boot/`, secrets and sockets included; the logs of its processes stay.
pub(super) fn clean_boot_dir() -> io::Result<()> {
    for entry in fs::read_dir(name::BOOT)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != KEPT) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Writes a new file that only its owner may read.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(bytes)
}
