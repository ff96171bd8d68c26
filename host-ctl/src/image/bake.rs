//! `image bake`: makes an image that boots with its own kernel on any VMM and still reports to host-ctl.
//!
//! An ext4 image is changed as a copy that takes the original's place once it was read back and checked, so it is baked
//! or as it was. What is there already, byte for byte, is left alone: baking twice changes nothing at all.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use firstlight_protocol::hex;

use super::baked::{Item, items};
use super::tree::{Entry, Tree, relative};
use super::{ImageError, debugfs, sparse};

/// The places where systemd is, on distributions with and without a merged `/usr`.
const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];

/// What baking did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baked {
    /// The paths that were written, none when all were there already.
    pub written: Vec<String>,
}

/// Installs the programs `init` and `agent` and their units in the image at `target`, a directory or an ext4 image.
///
/// # Errors
/// [`ImageError`]; an ext4 image is then as it was.
pub fn bake(target: &Path, init: &Path, agent: &Path) -> Result<Baked, ImageError> {
    let tree = Tree::open(target)?;
    let path = tree.path().to_owned();
    if !tree.is_clean()? {
        return Err(ImageError::NotClean { path });
    }
    if !has_systemd(&tree)? {
        return Err(ImageError::NoSystemd { path });
    }
    let missing = missing(&tree, items(init, agent)?)?;
    if !missing.is_empty() {
        match &tree {
            Tree::Directory(root) => missing.iter().try_for_each(|item| write(root, item))?,
            Tree::Ext4 { image, .. } => replace(image, &missing)?,
        }
    }
    Ok(Baked { written: missing.into_iter().map(|item| item.path).collect() })
}

fn has_systemd(tree: &Tree) -> Result<bool, ImageError> {
    for path in SYSTEMD {
        if matches!(tree.entry(path)?, Some(Entry::File { .. })) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The items that an image does not have, in their order.
fn missing(tree: &Tree, items: Vec<Item>) -> Result<Vec<Item>, ImageError> {
    let mut missing = Vec::new();
    for item in items {
        if tree.entry(&item.path)?.as_ref() != Some(&item.entry) {
            missing.push(item);
        }
    }
    Ok(missing)
}

/// Puts a copy of the image with the items in it in the image's place.
fn replace(image: &Path, items: &[Item]) -> Result<(), ImageError> {
    let copy = beside(image)?;
    sparse::copy(image, &copy)?;
    let made = debugfs::write(&copy, items).and_then(|()| check(&copy, items)).and_then(|()| {
        let durable = fs::File::open(&copy).and_then(|file| file.sync_all());
        durable
            .and_then(|()| fs::rename(&copy, image))
            .map_err(|error| ImageError::io("replace", image, error))
    });
    if made.is_err() {
        // The error says more than a second one would.
        let _ = fs::remove_file(&copy);
    }
    made
}

/// Reads back what was written: debugfs ends well whatever it did.
fn check(copy: &Path, items: &[Item]) -> Result<(), ImageError> {
    let tree = Tree::open(copy)?;
    match missing(&tree, items.to_vec())?.first() {
        None => Ok(()),
        Some(item) => Err(ImageError::NotWritten {
            image: copy.to_owned(),
            file: item.path.clone(),
            reason: "it is not there, or other than it should be; is there room?".to_owned(),
        }),
    }
}

/// A new name in the directory of `path`.
fn beside(path: &Path) -> Result<PathBuf, ImageError> {
    let random =
        crate::random::bytes::<6>().map_err(|error| ImageError::io("name a copy of", path, error))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(path.with_file_name(format!(".{name}.{}", hex::encode(&random))))
}

/// Writes an item into a directory. What stands in its way goes, but for directories.
fn write(root: &Path, item: &Item) -> Result<(), ImageError> {
    let path = root.join(relative(&item.path));
    let failed = |error| ImageError::io("write", &path, error);
    real_parent(root, &item.path).map_err(failed)?;
    match &item.entry {
        Entry::Directory => fs::create_dir(&path).map_err(failed),
        Entry::File { mode, bytes } => {
            let new = beside(&path)?;
            let mut options = fs::File::options();
            let file = options.write(true).create_new(true).mode(*mode).open(&new);
            let written = file.and_then(|mut file| {
                io::Write::write_all(&mut file, bytes)?;
                // Whatever our umask is.
                file.set_permissions(fs::Permissions::from_mode(*mode))
            });
            written.and_then(|()| fs::rename(&new, &path)).map_err(failed)
        }
        Entry::Link { target } => {
            let new = beside(&path)?;
            symlink(target, &new).and_then(|()| fs::rename(&new, &path)).map_err(failed)
        }
        // There is no such item.
        Entry::Other => Ok(()),
    }
}

/// Refuses a path that a link of the image would lead elsewhere, into the host's own `/usr` for instance; makes what is
/// missing of it.
fn real_parent(root: &Path, path: &str) -> io::Result<()> {
    let mut parent = root.to_owned();
    let mut parts: Vec<&str> = relative(path).split('/').collect();
    parts.pop();
    for part in parts {
        parent.push(part);
        match fs::symlink_metadata(&parent) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&parent)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "bake_tests.rs"]
mod tests;
