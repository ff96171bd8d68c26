//! Root file systems and disk images: what `--rootfs` and `--volume` name, made into something a guest can mount.

mod archive;
pub mod bake;
mod baked;
mod debugfs;
mod erofs;
mod error;
mod sparse;
pub mod survey;
mod tree;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use firstlight_protocol::boot_spec::FileSystem;

pub use baked::{Marker, prepare as prepare_baked};
pub use error::ImageError;

use crate::vm::Draft;
use crate::vm::spec::RootSpec;

/// The root file system made for a VM, inside its directory.
const ROOT_IMAGE: &str = "root.erofs";

/// Makes the root file system `source`, a directory, a tar archive (plain or gzip) or a disk image, ready for the VM in
/// `draft`. An image is used where it is; the others become an erofs image in the VM's directory, owned by root.
///
/// # Errors
/// [`ImageError`], which names the file and what to do.
pub fn root(source: &Path, draft: &Draft) -> Result<RootSpec, ImageError> {
    let source = source.canonicalize().map_err(|error| ImageError::io("find", source, error))?;
    let made = || RootSpec::Image { path: ROOT_IMAGE.into(), file_system: FileSystem::Erofs };
    let image = draft.path().join(ROOT_IMAGE);
    if source.is_dir() {
        erofs::make(&source, &image)?;
        return Ok(made());
    }
    match detect(&source)? {
        Kind::FileSystem(file_system) => Ok(RootSpec::Image { path: source, file_system }),
        Kind::Tar(compression) => {
            let tree = draft.path().join("root.tree");
            archive::unpack(&source, compression, &tree)?;
            let result = erofs::make(&tree, &image);
            std::fs::remove_dir_all(&tree).map_err(|error| ImageError::io("remove", &tree, error))?;
            result.map(|()| made())
        }
        Kind::Unknown => Err(ImageError::Unrecognized { path: source }),
    }
}

/// The file system on the disk image `path`.
///
/// # Errors
/// [`ImageError::NoFileSystem`] when there is none that a guest can mount.
pub fn file_system(path: &Path) -> Result<FileSystem, ImageError> {
    match detect(path)? {
        Kind::FileSystem(file_system) => Ok(file_system),
        Kind::Tar(_) | Kind::Unknown => Err(ImageError::NoFileSystem { path: path.to_owned() }),
    }
}

/// What a file is.
enum Kind {
    FileSystem(FileSystem),
    Tar(archive::Compression),
    Unknown,
}

fn detect(path: &Path) -> Result<Kind, ImageError> {
    let mut start = Vec::new();
    let limit = FileSystem::DETECT_LEN as u64;
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut start));
    read.map_err(|error| ImageError::io("read", path, error))?;
    Ok(match FileSystem::detect(&start) {
        Some(file_system) => Kind::FileSystem(file_system),
        None => archive::detect(&start).map_or(Kind::Unknown, Kind::Tar),
    })
}

#[cfg(test)]
mod tests;
