//! A VM's disks in a snapshot: layers that never change, and an overlay on them for each VM.
//!
//! ```text
//!  the VM                    its snapshot                   a VM restored from it
//!  data.ext4 ── copied ────► disks/vol0.0 ── hard link ───► disks/vol0.0 ◄─ disks/vol0.top (written to)
//! ```
//!
//! The copy is made while the guest stands still; where the file system shares blocks it costs none, and holes stay
//! holes. A snapshot of a restored VM has its `vol0.top` as `vol0.1`, over the same `vol0.0`: images name what is under
//! them by its file's name, so a directory of them can be linked elsewhere. A disk that is only read is not copied: one in
//! the VM's own directory is linked, another has to stay where it is.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{SeekFrom, copy_file_range, seek};
use tokio::process::Command;

use super::manifest::{Disk, Layer};
use super::{SnapshotError, name};
use crate::driver::config::{DiskConfig, DiskFormat};

/// What is written to of a restored VM's disk.
const TOP: &str = "top";

/// Bytes copied by one call.
const CHUNK: u64 = 1 << 26;

/// The path of a restored VM's disk, relative to its directory.
#[must_use]
pub fn overlay(serial: &str) -> PathBuf {
    Path::new(name::DISKS).join(format!("{serial}.{TOP}"))
}

/// How the image at `path` of a spec is laid out: what a restore has made is an overlay.
#[must_use]
pub fn format(path: &Path) -> DiskFormat {
    let overlay = path.starts_with(name::DISKS) && path.extension().is_some_and(|extension| extension == TOP);
    if overlay { DiskFormat::Overlay } else { DiskFormat::Raw }
}

/// Keeps the disks of a VM that stands still in `draft`. Relative images are in the working directory.
///
/// # Errors
/// [`SnapshotError::Io`], such as a full disk.
pub fn keep(disks: &[DiskConfig], draft: &Path) -> Result<Vec<Disk>, SnapshotError> {
    let into = draft.join(name::DISKS);
    fs::create_dir_all(&into).map_err(SnapshotError::io("make", &into))?;
    disks.iter().filter(|disk| !disk.read_only).map(|disk| keep_one(disk, &into)).collect()
}

fn keep_one(disk: &DiskConfig, into: &Path) -> Result<Disk, SnapshotError> {
    let mut layers = Vec::new();
    if disk.format == DiskFormat::Overlay {
        for lower in lower_layers(&disk.serial, Path::new(name::DISKS)) {
            let file = layer_name(&disk.serial, layers.len());
            link(&lower, &into.join(&file))?;
            layers.push(layer(into, file)?);
        }
    }
    let file = layer_name(&disk.serial, layers.len());
    let target = into.join(&file);
    copy(&disk.image, &target).map_err(SnapshotError::io("copy a disk to", &target))?;
    layers.push(layer(into, file)?);
    Ok(Disk { serial: disk.serial.clone(), layers })
}

fn layer(dir: &Path, file: String) -> Result<Layer, SnapshotError> {
    let path = dir.join(&file);
    let length = path.metadata().map_err(SnapshotError::io("look at", &path))?.len();
    Ok(Layer { file, length })
}

fn layer_name(serial: &str, index: usize) -> String {
    format!("{serial}.{index}")
}

/// The layers under a restored VM's overlay, the lowest first.
fn lower_layers(serial: &str, dir: &Path) -> Vec<PathBuf> {
    let paths = (0..).map(|index| dir.join(layer_name(serial, index)));
    paths.take_while(|path| path.exists()).collect()
}

/// Gives the VM in `vm_dir` the disks of the snapshot `snapshot` in `from`, with an overlay on each.
///
/// # Errors
/// [`SnapshotError::Corrupt`] when a layer is not as long as it was.
pub async fn give(disks: &[Disk], snapshot: &str, from: &Path, vm_dir: &Path) -> Result<(), SnapshotError> {
    if disks.is_empty() {
        return Ok(());
    }
    let into = vm_dir.join(name::DISKS);
    fs::create_dir_all(&into).map_err(SnapshotError::io("make", &into))?;
    for disk in disks {
        for layer in &disk.layers {
            let source = from.join(name::DISKS).join(&layer.file);
            let length = source.metadata().map_or(0, |metadata| metadata.len());
            if length != layer.length {
                let reason = format!("{} has {length} bytes instead of {}", layer.file, layer.length);
                return Err(SnapshotError::Corrupt { name: snapshot.to_owned(), reason });
            }
            link(&source, &into.join(&layer.file))?;
        }
        make_overlay(disk, &into).await?;
    }
    Ok(())
}

async fn make_overlay(disk: &Disk, dir: &Path) -> Result<(), SnapshotError> {
    let Some(backing) = disk.layers.last() else { return Ok(()) };
    let format = if disk.layers.len() == 1 { "raw" } else { "qcow2" };
    let mut command = Command::new("qemu-img");
    command.current_dir(dir).args(["create", "-q", "-f", "qcow2", "-F", format, "-b", &backing.file]);
    command.arg(format!("{}.{TOP}", disk.serial));
    let output = command
        .output()
        .await
        .map_err(|error| SnapshotError::Overlay { reason: format!("{error}; install qemu-utils") })?;
    if output.status.success() {
        return Ok(());
    }
    Err(SnapshotError::Overlay { reason: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

/// Gives a file that never changes another name. Both are in the state directory.
pub(super) fn link(source: &Path, target: &Path) -> Result<(), SnapshotError> {
    fs::hard_link(source, target).map_err(SnapshotError::io("link", source))
}

/// Copies a file, holes as holes. Source: `lseek(2)`, `copy_file_range(2)`.
fn copy(source: &Path, target: &Path) -> io::Result<()> {
    let from = File::open(source)?;
    let into = File::options().write(true).create_new(true).open(target)?;
    let length = from.metadata()?.len();
    into.set_len(length)?;
    let mut at = 0;
    while let Some((start, end)) = data(&from, at, length)? {
        let (mut read, mut written) = (start, start);
        while read < end {
            let want = usize::try_from((end - read).min(CHUNK)).unwrap_or(usize::MAX);
            if copy_file_range(&from, Some(&mut read), &into, Some(&mut written), want)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        at = end;
    }
    Ok(())
}

/// The next stretch of data at or after `at`.
fn data(file: &File, at: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= length {
        return Ok(None);
    }
    match seek(file, SeekFrom::Data(at)) {
        Ok(start) => Ok(Some((start, seek(file, SeekFrom::Hole(start))?))),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;

    #[test]
    fn a_copy_is_the_same_and_as_sparse() {
        let dir = tempfile::tempdir().unwrap();
        let [source, target] = ["source", "target"].map(|name| dir.path().join(name));
        let file = File::create(&source).unwrap();
        file.set_len(8 << 20).unwrap();
        file.write_all_at(b"middle", 4 << 20).unwrap();
        file.write_all_at(b"end", (8 << 20) - 3).unwrap();
        copy(&source, &target).unwrap();
        assert_eq!(fs::read(&source).unwrap(), fs::read(&target).unwrap());
        assert!(target.metadata().unwrap().blocks() < (1 << 20) / 512, "holes were filled");
    }

    #[test]
    fn only_what_a_restore_has_made_is_an_overlay() {
        assert_eq!(format(&overlay("vol0")), DiskFormat::Overlay);
        assert_eq!(format(Path::new("/home/me/disks/vol0.top")), DiskFormat::Raw);
        assert_eq!(format(Path::new("root.erofs")), DiskFormat::Raw);
    }

    #[tokio::test]
    async fn a_layer_that_was_cut_is_corrupt_and_nothing_is_made_of_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(name::DISKS)).unwrap();
        fs::write(dir.path().join(name::DISKS).join("vol0.0"), b"short").unwrap();
        let layers = vec![Layer { file: "vol0.0".into(), length: 512 }];
        let disks = [Disk { serial: "vol0".into(), layers }];
        let vm = dir.path().join("vm");
        let error = give(&disks, "snap", dir.path(), &vm).await.unwrap_err();
        assert!(matches!(error, SnapshotError::Corrupt { .. }), "{error}");
        assert!(!vm.join(name::DISKS).join("vol0.top").exists());
    }
}
