//! Removing a directory with all that is in it.

use std::os::fd::{AsFd, OwnedFd};

use firstlight_protocol::message::copy::MAX_DEPTH;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

/// Removes the directory `name` in `directory`, without following any symbolic link. What vanishes meanwhile was to
/// vanish anyhow.
///
/// # Errors
/// The first errno that keeps something from being removed; what is gone by then stays gone. `ELOOP` at more than
/// [`MAX_DEPTH`] directories inside one another.
pub(crate) fn remove_tree(directory: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    let mut open = vec![Level::open(&directory, name)?];
    loop {
        let depth = open.len();
        let Some(level) = open.last_mut() else { return Ok(()) };
        match level.next()? {
            Some((_, FileType::Directory)) if depth == MAX_DEPTH => return Err(Errno::LOOP),
            Some((name, FileType::Directory)) => match Level::open(&level.directory, &name) {
                Ok(below) => open.push(below),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            },
            Some((name, _)) => gone(unlinkat(&level.directory, name.as_slice(), AtFlags::empty()))?,
            None => {
                let Some(done) = open.pop() else { return Ok(()) };
                let parent = open.last().map_or(directory.as_fd(), |level| level.directory.as_fd());
                gone(unlinkat(parent, done.name.as_slice(), AtFlags::REMOVEDIR))?;
            }
        }
    }
}

fn gone(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// A directory that is being emptied.
struct Level {
    name: Vec<u8>,
    directory: OwnedFd,
    entries: Dir,
}

impl Level {
    fn open(parent: impl AsFd, name: &[u8]) -> Result<Level, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(parent, name, flags, Mode::empty())?;
        let entries = Dir::read_from(&directory)?;
        Ok(Level { name: name.to_vec(), directory, entries })
    }

    /// The next name, and what it is.
    fn next(&mut self) -> Result<Option<(Vec<u8>, FileType)>, Errno> {
        for entry in self.entries.by_ref() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                // The file system does not say in the listing.
                let stat = rustix::fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                kind = FileType::from_raw_mode(stat.st_mode);
            }
            return Ok(Some((name.to_vec(), kind)));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    #[test]
    fn a_tree_goes_and_what_its_links_point_to_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir_all(path.join("tree/a/b/c")).unwrap();
        fs::write(path.join("kept"), "kept").unwrap();
        for link in ["tree/link", "tree/a/b/link"] {
            symlink(path, path.join(link)).unwrap();
        }
        for number in 0..300 {
            fs::write(path.join(format!("tree/a/{number}")), "").unwrap();
        }
        remove_tree(File::open(path).unwrap(), b"tree").unwrap();
        let left: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
    }

    #[test]
    fn a_link_to_a_directory_is_no_directory() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("kept")).unwrap();
        symlink("kept", directory.path().join("link")).unwrap();
        let parent = File::open(directory.path()).unwrap();
        assert!(remove_tree(&parent, b"link").is_err());
        assert!(directory.path().join("kept").exists());
    }
}
