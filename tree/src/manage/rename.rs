//! Giving files other names.

use firstlight_protocol::message::file::{FileKind, RenameRequest};
use rustix::fs::{RenameFlags, renameat, renameat_with};
use rustix::io::Errno;

use crate::error::Error;
use crate::names::join;
use crate::root::{Root, Slot, kind_at};

/// Renames a file or directory.
///
/// # Errors
/// As `rename(2)`; between file systems that is `EXDEV`.
pub fn rename(request: &RenameRequest) -> Result<(), Error> {
    let root = Root::open(&request.from)?;
    let Some(from) = root.slot(&request.from.path)? else {
        return Err(Error::refused("rename", &request.from.path, "name it without . or .. at the end"));
    };
    if from.kind.is_none() {
        return Err(Error::system("rename", &from.path)(Errno::NOENT));
    }
    let to = destination(&root, &request.to, &from)?;
    if request.keep_existing && to.kind.is_some() {
        return Err(Error::system("rename to", &to.path)(Errno::EXIST));
    }
    let (old, new) = (from.name.as_slice(), to.name.as_slice());
    let renamed = if request.keep_existing {
        renameat_with(&from.directory, old, &to.directory, new, RenameFlags::NOREPLACE)
    } else {
        renameat(&from.directory, old, &to.directory, new)
    };
    renamed.map_err(Error::system("rename to", &to.path))
}

/// The slot of the new name: below `path` if a directory is there, otherwise `path` itself.
fn destination(root: &Root, path: &[u8], from: &Slot) -> Result<Slot, Error> {
    match root.slot_behind_links(path)? {
        Some(slot) if slot.kind != Some(FileKind::Directory) => {
            if path.ends_with(b"/") && from.kind != Some(FileKind::Directory) {
                return Err(Error::system("rename to", path)(Errno::NOTDIR));
            }
            Ok(root.slot(path)?.unwrap_or(slot))
        }
        Some(_) | None => {
            let (directory, path) = (root.directory(path)?, join(path, &from.name));
            let kind = kind_at(&directory, &from.name).map_err(Error::system("stat", &path))?;
            Ok(Slot { directory, name: from.name.clone(), kind, path })
        }
    }
}
