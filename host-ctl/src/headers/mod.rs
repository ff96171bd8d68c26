//! Kernel headers as a bundle: from a distribution's packages or from directories, in the format of
//! [`firstlight_protocol::headers`].
//!
//! ```text
//! packages, directories ─► Tree ─► selection ─► bundle
//!                       (as in a   (what `build` leads to, and what
//!                        root)      that needs; links made relative)
//! ```
//!
//! The guest installs all of a bundle below one directory, so whatever is absolute in a package is made relative here.

mod bundle;
mod deb;
mod directory;
mod error;
mod selection;
mod tree;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use firstlight_protocol::headers::Manifest;

pub use bundle::manifest_of;
pub use error::HeadersError;

use selection::Selection;
use tree::Tree;

/// How every Debian package begins. Source: `ar(5)` and `deb(5)`.
const DEB_MAGIC: &[u8] = b"!<arch>\ndebian";

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
}

/// Makes a bundle from `sources`, packages and directories of one kernel, and writes it to `output`, or to
/// `headers-RELEASE.tar.gz` in the working directory. The same sources give the same bytes.
///
/// # Errors
/// [`HeadersError`], which names the file. No half-written bundle is left.
pub fn make(sources: &[PathBuf], output: Option<&Path>) -> Result<Made, HeadersError> {
    let mut tree = Tree::default();
    for source in sources {
        if source.is_dir() {
            directory::load(source, &mut tree)?;
        } else if is_package(source)? {
            deb::load(source, &mut tree)?;
        } else {
            return Err(HeadersError::Unrecognized { path: source.clone() });
        }
    }
    let selection = Selection::of(tree)?;
    let default = PathBuf::from(format!("headers-{}.tar.gz", selection.release));
    let path = output.map_or(default, Path::to_owned);
    let manifest = bundle::write(&selection, &path)?;
    Ok(Made { path, manifest })
}

fn is_package(path: &Path) -> Result<bool, HeadersError> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(DEB_MAGIC.len() as u64).read_to_end(&mut start));
    read.map_err(|error| HeadersError::io("read", path, error))?;
    Ok(start == DEB_MAGIC)
}

#[cfg(test)]
mod tests;
