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

use std::fs;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::manifest::Disk;
use super::sparse::copy;
use super::{SnapshotError, name};
use crate::driver::config::{DiskConfig, DiskFormat};

/// What makes overlays.
pub const QEMU_IMG: &str = "qemu-img";

/// What is written to of a restored VM's disk.
const TOP: &str = "top";

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
            layers.push(file);
        }
    }
    let file = layer_name(&disk.serial, layers.len());
    let target = into.join(&file);
    copy(&disk.image, &target).map_err(SnapshotError::io("copy a disk to", &target))?;
    layers.push(file);
    Ok(Disk { serial: disk.serial.clone(), layers })
}

fn layer_name(serial: &str, index: usize) -> String {
    format!("{serial}.{index}")
}

/// The layers under a restored VM's overlay, the lowest first.
fn lower_layers(serial: &str, dir: &Path) -> Vec<PathBuf> {
    let paths = (0..).map(|index| dir.join(layer_name(serial, index)));
    paths.take_while(|path| path.exists()).collect()
}

/// Gives the VM in `vm_dir` the disks of a snapshot in `from`, with an overlay on each.
///
/// # Errors
/// [`SnapshotError::Io`] or [`SnapshotError::Overlay`].
pub async fn give(disks: &[Disk], from: &Path, vm_dir: &Path) -> Result<(), SnapshotError> {
    if disks.is_empty() {
        return Ok(());
    }
    let into = vm_dir.join(name::DISKS);
    fs::create_dir_all(&into).map_err(SnapshotError::io("make", &into))?;
    for disk in disks {
        for layer in &disk.layers {
            link(&from.join(name::DISKS).join(layer), &into.join(layer))?;
        }
        make_overlay(disk, &into).await?;
    }
    Ok(())
}

async fn make_overlay(disk: &Disk, dir: &Path) -> Result<(), SnapshotError> {
    let Some(backing) = disk.layers.last() else { return Ok(()) };
    let format = if disk.layers.len() == 1 { "raw" } else { "qcow2" };
    let mut command = Command::new(QEMU_IMG);
    command.current_dir(dir).args(["create", "-q", "-f", "qcow2", "-F", format, "-b", backing]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_restore_has_made_is_an_overlay() {
        assert_eq!(format(&overlay("vol0")), DiskFormat::Overlay);
        assert_eq!(format(Path::new("/home/me/disks/vol0.top")), DiskFormat::Raw);
        assert_eq!(format(Path::new("root.erofs")), DiskFormat::Raw);
    }
}
