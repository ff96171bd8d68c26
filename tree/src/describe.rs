//! What is in a directory, without its content: for a sync to compare.

use std::os::fd::BorrowedFd;

use firstlight_protocol::message::copy::{Content, Entry, Extent};
use firstlight_protocol::message::sync::{Item, ItemContent};
use rustix::io::{Errno, pread};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::exclude::Exclude;
use crate::root::Root;
use crate::source::{Outlet, Reading, walk};

/// Bytes hashed in one go.
const BUFFER: usize = 64 * 1024;

/// Describes the directory at `path` and what is in it, parents first, less what `exclude` says; gives how many sockets,
/// pipes and devices were left out. With `checksum`, files are read to their ends.
///
/// # Errors
/// [`Error`], also of `take`. `ENOTDIR` when it is no directory.
pub fn describe(
    root: &Root,
    path: &[u8],
    exclude: &Exclude,
    checksum: bool,
    take: &mut dyn FnMut(Item) -> Result<(), Error>,
) -> Result<u64, Error> {
    let mut describer = Describer { exclude, checksum, pending: None, take };
    let totals = walk(root, path, &mut describer)?;
    describer.settle()?;
    Ok(totals.special)
}

struct Describer<'a> {
    exclude: &'a Exclude,
    checksum: bool,
    /// The file whose content is being read.
    pending: Option<(Item, Hashing)>,
    take: &'a mut dyn FnMut(Item) -> Result<(), Error>,
}

/// A file's digest so far.
struct Hashing {
    hash: Sha256,
    size: u64,
    position: u64,
}

impl Describer<'_> {
    /// Gives the pending file away.
    fn settle(&mut self) -> Result<(), Error> {
        let Some((mut item, mut hashing)) = self.pending.take() else { return Ok(()) };
        hashing.zeros_to(hashing.size);
        let digest = Some(hashing.hash.finalize().into());
        item.content = ItemContent::File { size: hashing.size, digest };
        (self.take)(item)
    }
}

impl Outlet for Describer<'_> {
    fn skips(&mut self, path: &[u8], is_directory: bool) -> bool {
        // The directory itself is what was asked for.
        !path.is_empty() && self.exclude.matches(path, is_directory)
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        self.settle()?;
        let item =
            |content| Item { path: entry.path.clone(), mode: entry.mode, modified: entry.modified, content };
        match &entry.content {
            Content::Directory => (self.take)(item(ItemContent::Directory)),
            Content::Symlink(target) => (self.take)(item(ItemContent::Symlink(target.clone()))),
            Content::File { size, .. } => {
                let item = item(ItemContent::File { size: *size, digest: None });
                if !self.checksum {
                    return (self.take)(item);
                }
                self.pending = Some((item, Hashing { hash: Sha256::new(), size: *size, position: 0 }));
                Ok(())
            }
            Content::HardLink(_) => Err(Error::Stream("a walk gives every name its own file")),
        }
    }

    fn extent(&mut self, file: BorrowedFd<'_>, extent: Extent) -> Result<(), Reading> {
        match &mut self.pending {
            Some((_, hashing)) => hashing.read(file, extent),
            None => Ok(()),
        }
    }
}

impl Hashing {
    fn read(&mut self, file: BorrowedFd<'_>, extent: Extent) -> Result<(), Reading> {
        self.zeros_to(extent.offset);
        let end = extent.offset + extent.length;
        let mut buffer = vec![0; BUFFER];
        while self.position < end {
            let wanted = usize::try_from(end - self.position).map_or(BUFFER, |left| left.min(BUFFER));
            match pread(file, &mut buffer[..wanted], self.position) {
                Ok(0) => return Err(Reading::Shrunk),
                Ok(count) => {
                    self.hash.update(&buffer[..count]);
                    self.position += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Reading::Failed(errno)),
            }
        }
        Ok(())
    }

    /// Reads a hole.
    fn zeros_to(&mut self, end: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        while self.position < end {
            let count = (end - self.position).min(ZEROS.len() as u64);
            self.hash.update(&ZEROS[..usize::try_from(count).unwrap_or(ZEROS.len())]);
            self.position += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_protocol::message::file::Place;
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
    use std::path::Path;

    fn items(path: &Path, exclude: &[&str], checksum: bool) -> BTreeMap<String, Item> {
        let path = path.as_os_str().as_bytes();
        let exclude: Vec<Vec<u8>> = exclude.iter().map(|pattern| pattern.as_bytes().to_vec()).collect();
        let (root, exclude) = (Root::open(&Place::new(path)).unwrap(), Exclude::new(&exclude).unwrap());
        let mut items = BTreeMap::new();
        let mut take = |item: Item| {
            items.insert(String::from_utf8(item.path.clone()).unwrap(), item);
            Ok(())
        };
        describe(&root, path, &exclude, checksum, &mut take).unwrap();
        items
    }

    fn names(items: &BTreeMap<String, Item>) -> Vec<&str> {
        items.keys().map(String::as_str).collect()
    }

    #[test]
    fn every_name_is_described_and_what_is_excluded_is_not_even_opened() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/target/deep")).unwrap();
        fs::write(dir.path().join("a/file"), "four").unwrap();
        fs::hard_link(dir.path().join("a/file"), dir.path().join("a/twin")).unwrap();
        symlink("/nowhere", dir.path().join("link")).unwrap();
        fs::set_permissions(dir.path().join("a/file"), fs::Permissions::from_mode(0o4755)).unwrap();
        let items = items(dir.path(), &["target/"], false);
        assert_eq!(names(&items), ["", "a", "a/file", "a/twin", "link"]);
        assert_eq!(items["a/twin"].content, ItemContent::File { size: 4, digest: None });
        assert_eq!(items["a/file"].mode, 0o755);
        assert_eq!(items["link"].content, ItemContent::Symlink(b"/nowhere".to_vec()));
    }

    #[test]
    fn a_pattern_that_matches_everything_leaves_the_directory_itself() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(names(&items(dir.path(), &["*"], false)), [""]);
    }

    #[test]
    fn a_digest_is_that_of_the_content_however_it_is_stored() {
        let dir = tempfile::tempdir().unwrap();
        let sparse = fs::File::create(dir.path().join("sparse")).unwrap();
        sparse.write_all_at(b"middle", 300_000).unwrap();
        sparse.set_len(1_000_000).unwrap();
        let mut content = vec![0; 1_000_000];
        content[300_000..300_006].copy_from_slice(b"middle");
        fs::write(dir.path().join("dense"), &content).unwrap();
        fs::write(dir.path().join("empty"), "").unwrap();
        let items = items(dir.path(), &[], true);
        for (name, content) in [("sparse", &content[..]), ("dense", &content), ("empty", b"")] {
            let digest = Some(Sha256::digest(content).into());
            assert_eq!(
                items[name].content,
                ItemContent::File { size: content.len() as u64, digest },
                "{name}"
            );
        }
    }
}
