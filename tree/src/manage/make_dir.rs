//! Making directories.

use firstlight_protocol::message::file::{MakeDirRequest, Place};
use rustix::fs::{Mode, OFlags, fchmod, mkdirat, openat};
use rustix::io::Errno;

use crate::error::Error;
use crate::names::parent_and_last;
use crate::root::Root;

/// Of directories that are made on the way.
const PARENT_MODE: u32 = 0o755;

/// Makes a directory, and those it is in if that is asked for.
///
/// # Errors
/// As `mkdir(2)`. Parents that were made stay.
pub fn make_dir(request: &MakeDirRequest) -> Result<(), Error> {
    let MakeDirRequest { place: Place { path, .. }, parents, mode } = request;
    let root = Root::open(&request.place)?;
    if *parents {
        make_parents(&root, path)?;
    }
    match make(&root, path, *mode) {
        Err(error) if *parents && error.errno() == Some(Errno::EXIST) => root.directory(path).map(drop),
        made => made,
    }
}

/// Makes what is missing of the directories that `path` is in, from the top down.
fn make_parents(root: &Root, path: &[u8]) -> Result<(), Error> {
    let end = parent_and_last(path).0.len();
    for at in (1..=end).filter(|at| path.get(*at).is_none_or(|byte| *byte == b'/')) {
        let above = &path[..at];
        match make(root, above, PARENT_MODE) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            made => made?,
        }
    }
    Ok(())
}

fn make(root: &Root, path: &[u8], mode: u32) -> Result<(), Error> {
    let Some(slot) = root.slot(path)? else {
        return Err(Error::system("mkdir", path)(Errno::EXIST));
    };
    let error = Error::system("mkdir", path);
    mkdirat(&slot.directory, slot.name.as_slice(), Mode::RWXU).map_err(&error)?;
    // The umask takes no part: the mode is the one that was asked for.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(&slot.directory, slot.name.as_slice(), flags, Mode::empty()).map_err(&error)?;
    fchmod(made, Mode::from_raw_mode(mode & 0o7777)).map_err(&error)
}
