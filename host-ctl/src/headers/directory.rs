//! Headers in directories: a build tree, or a root in which packages were installed or unpacked.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::error::HeadersError;
use super::tree::{Contents, NodeKind, Tree, is_wanted};

/// Where in a root headers can be. `is_wanted` says what of it.
const PLACES: [&str; 4] = ["usr/src", "usr/lib", "usr/lib/modules", "lib/modules"];

/// The release under which a build tree without a root around it is entered; its own files say the real one.
const ALONE: &str = "lib/modules/of-a-build-tree/build";

/// Adds the headers in `directory` to `tree`.
///
/// # Errors
/// [`HeadersError::NoHeaders`], or the file that cannot be read.
pub(super) fn load(directory: &Path, tree: &mut Tree) -> Result<(), HeadersError> {
    let directory = directory.canonicalize().map_err(|error| HeadersError::io("find", directory, error))?;
    if directory.join("Makefile").is_file() && directory.join("include").is_dir() {
        let top = "usr/src/linux-headers";
        walk(&directory, top, tree, &|_| true)?;
        tree.add(top.into(), 0, NodeKind::Directory);
        tree.add(ALONE.into(), 0, NodeKind::Symlink(format!("/{top}")));
        return Ok(());
    }
    let mut found = false;
    for place in PLACES {
        let at = directory.join(place);
        if at.is_dir() {
            found = true;
            walk(&at, place, tree, &|path| is_wanted(path) || leads_there(path))?;
        }
    }
    if found { Ok(()) } else { Err(HeadersError::NoHeaders { path: directory }) }
}

/// Whether something wanted can be below this directory of `PLACES`.
fn leads_there(path: &str) -> bool {
    let modules = path.strip_prefix("usr/").unwrap_or(path).strip_prefix("lib/modules/");
    modules.is_some_and(|release| !release.contains('/'))
}

/// Adds what is in `directory`, known as `path`, as far as it is `wanted`. Links are entered and not followed.
fn walk(
    directory: &Path,
    path: &str,
    tree: &mut Tree,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<(), HeadersError> {
    let mut open: Vec<(PathBuf, String)> = vec![(directory.to_owned(), path.to_owned())];
    while let Some((directory, path)) = open.pop() {
        let failed = |error| HeadersError::io("list", &directory, error);
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else {
                return Err(HeadersError::io(
                    "use",
                    &entry.path(),
                    io::Error::other("its name is not UTF-8"),
                ));
            };
            let path = format!("{path}/{name}");
            if !wanted(&path) {
                continue;
            }
            let kind = kind(&entry.path()).map_err(|error| HeadersError::io("read", &entry.path(), error))?;
            let Some((mtime, kind)) = kind else { continue };
            if matches!(kind, NodeKind::Directory) {
                open.push((entry.path(), path.clone()));
            }
            tree.add(path, mtime, kind);
        }
    }
    Ok(())
}

/// What is at a path; `None` for sockets and the like, which no headers need.
fn kind(path: &Path) -> io::Result<Option<(u64, NodeKind)>> {
    let metadata = fs::symlink_metadata(path)?;
    let kind = if metadata.is_dir() {
        NodeKind::Directory
    } else if metadata.is_symlink() {
        NodeKind::Symlink(fs::read_link(path)?.to_string_lossy().into_owned())
    } else if metadata.is_file() {
        let contents = Contents::Disk { path: path.to_owned(), size: metadata.len() };
        NodeKind::File { contents, executable: metadata.permissions().mode() & 0o111 != 0 }
    } else {
        return Ok(None);
    };
    Ok(Some((u64::try_from(metadata.mtime()).unwrap_or(0), kind)))
}
