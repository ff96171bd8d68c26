//! Listing a directory, a part at a time.
//!
//! Each part is found by reading the whole directory and keeping the smallest names after the last one sent. Nothing is
//! remembered between two parts, memory is bounded by one of them, and a name that is there all the time is
//! listed exactly once, whatever comes and goes around it.

use std::collections::BTreeSet;

use firstlight_protocol::message::file::{FileList, FileListRequest, Listed, MAX_LISTED};
use rustix::fs::{AtFlags, Dir, statat};
use rustix::io::Errno;

use crate::error::Error;
use crate::metadata::describe;
use crate::root::Root;

/// The next names of a directory.
///
/// # Errors
/// As `openat2(2)` and `getdents(2)`.
pub fn list(request: &FileListRequest) -> Result<FileList, Error> {
    let path = &request.place.path;
    let directory = Root::open(&request.place)?.directory(path)?;
    let (names, more) = smallest_names(&directory, request.after.as_deref(), MAX_LISTED)
        .map_err(Error::system("list", path))?;
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        match statat(&directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => entries.push(Listed { metadata: describe(&stat), name }),
            // Gone since it was read.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(Error::system("stat", &crate::names::join(path, &name))(errno)),
        }
    }
    Ok(FileList { entries, more })
}

/// The `limit` smallest names behind `after`, and whether there are others.
fn smallest_names(
    directory: impl std::os::fd::AsFd,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<(BTreeSet<Vec<u8>>, bool), Errno> {
    let mut names = BTreeSet::new();
    let mut more = false;
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let is_wanted = !matches!(name, b"." | b"..") && after.is_none_or(|after| name > after);
        if is_wanted {
            names.insert(name.to_vec());
        }
        if names.len() > limit {
            names.pop_last();
            more = true;
        }
    }
    Ok((names, more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_directory_are_in_order_and_make_the_whole() {
        let directory = tempfile::tempdir().unwrap();
        let mut expected: Vec<Vec<u8>> = (0..100).map(|number| format!("{number}").into_bytes()).collect();
        for name in &expected {
            std::fs::write(directory.path().join(String::from_utf8(name.clone()).unwrap()), "").unwrap();
        }
        expected.sort();
        let open = std::fs::File::open(directory.path()).unwrap();
        let mut found: Vec<Vec<u8>> = Vec::new();
        loop {
            let (names, more) = smallest_names(&open, found.last().map(Vec::as_slice), 7).unwrap();
            assert_eq!(more, found.len() + names.len() < expected.len());
            found.extend(names);
            if !more {
                break;
            }
        }
        assert_eq!(found, expected);
    }
}
