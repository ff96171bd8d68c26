//! Removing files and directories.

use firstlight_protocol::message::file::{FileKind, RemoveRequest};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use crate::error::Error;
use crate::remove::remove_tree;
use crate::root::Root;

/// Removes what is at a place.
///
/// # Errors
/// As `unlink(2)` and `rmdir(2)`. The root itself is refused.
pub fn remove(request: &RemoveRequest) -> Result<(), Error> {
    let path = &request.place.path;
    match remove_if_there(request) {
        Err(error) if request.ignore_missing && error.errno() == Some(Errno::NOENT) => Ok(()),
        Ok(true) => Ok(()),
        Ok(false) if request.ignore_missing => Ok(()),
        Ok(false) => Err(Error::system("remove", path)(Errno::NOENT)),
        Err(error) => Err(error),
    }
}

fn remove_if_there(request: &RemoveRequest) -> Result<bool, Error> {
    let path = &request.place.path;
    let Some(slot) = Root::open(&request.place)?.slot(path)? else {
        return Err(Error::refused("remove", path, "name it without . or .. at the end; the root stays"));
    };
    let Some(kind) = slot.kind else { return Ok(false) };
    let removed = match kind {
        FileKind::Directory if request.recursive => remove_tree(&slot.directory, &slot.name),
        FileKind::Directory => unlinkat(&slot.directory, slot.name.as_slice(), AtFlags::REMOVEDIR),
        FileKind::File
        | FileKind::Symlink
        | FileKind::Fifo
        | FileKind::Socket
        | FileKind::CharDevice
        | FileKind::BlockDevice => unlinkat(&slot.directory, slot.name.as_slice(), AtFlags::empty()),
    };
    removed.map_err(Error::system("remove", path))?;
    Ok(true)
}
