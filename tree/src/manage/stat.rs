//! Looking at one file.

use firstlight_protocol::message::file::{FileKind, FileStat, FileStatRequest};
use rustix::fs::{AtFlags, OFlags, Stat, fstat, readlinkat, statat};

use crate::error::Error;
use crate::metadata::{describe, kind_of};
use crate::root::Root;

/// What is at a place.
///
/// # Errors
/// As `openat2(2)` and `stat(2)`.
pub fn stat(request: &FileStatRequest) -> Result<FileStat, Error> {
    let root = Root::open(&request.place)?;
    let path = &request.place.path;
    let slot = if request.follow || path.ends_with(b"/") { None } else { root.slot(path)? };
    let Some(slot) = slot else {
        let stat = fstat(root.follow(path, OFlags::PATH)?).map_err(Error::system("stat", path))?;
        return Ok(answer(&stat, None));
    };
    let name = slot.name.as_slice();
    let stat =
        statat(&slot.directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Error::system("stat", path))?;
    let target = match kind_of(&stat) {
        FileKind::Symlink => {
            let target = readlinkat(&slot.directory, name, Vec::new());
            Some(target.map_err(Error::system("readlink", path))?.into_bytes())
        }
        FileKind::File
        | FileKind::Directory
        | FileKind::Fifo
        | FileKind::Socket
        | FileKind::CharDevice
        | FileKind::BlockDevice => None,
    };
    Ok(answer(&stat, target))
}

fn answer(stat: &Stat, target: Option<Vec<u8>>) -> FileStat {
    FileStat { metadata: describe(stat), target }
}
