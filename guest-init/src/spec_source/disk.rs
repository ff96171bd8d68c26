//! The boot spec on a disk of its own: by virtio serial or file-system label, as `/boot.json` of a file system or as
//! the disk's first bytes.

use firstlight_protocol::boot_spec::{DISK_NAME, FileSystem, MAX_SPEC_BYTES};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Found, Machine, READ_LIMIT, SpecError, read_file};
use crate::error::CallError;
use crate::files;
use crate::plan::block_driver;
use crate::stage::mounts::make_directory;

/// How long to wait for the disk when nothing else has the boot spec.
const TIMEOUT_MS: u32 = 2_000;

/// Where a file system with the boot spec is mounted while it is read.
const MOUNT_POINT: &str = "/run/firstlight/boot";

/// Looks at the disks there are.
pub(super) fn look(machine: Machine<'_>) -> Result<Option<Found>, SpecError> {
    let transports = machine.devices.transports_of(machine.manifest);
    machine.loader.load(&machine.manifest.load_order(&block_driver(transports)))?;
    if let Ok(device) = machine.devices.disk(DISK_NAME, 0) {
        return read_disk(machine, &device).map(Some);
    }
    let devices = machine.devices.disks().into_iter().map(|name| format!("/dev/{name}"));
    for device in devices {
        if has_label(&read_start(&device)?) {
            return read_disk(machine, &device).map(Some);
        }
    }
    Ok(None)
}

/// Waits for a disk with the right serial.
pub(super) fn wait(machine: Machine<'_>) -> Result<Option<Found>, SpecError> {
    match machine.devices.disk(DISK_NAME, TIMEOUT_MS) {
        Ok(device) => read_disk(machine, &device).map(Some),
        Err(_) => Ok(None),
    }
}

fn read_disk(machine: Machine<'_>, device: &str) -> Result<Found, SpecError> {
    let Some(file_system) = FileSystem::detect(&read_start(device)?) else { return read_raw(device) };
    machine.loader.load(&machine.manifest.load_order(&[file_system.name()]))?;
    make_directory(MOUNT_POINT, nix::sys::stat::Mode::S_IRWXU)?;
    let kind = Some(file_system.name());
    mount(Some(device), MOUNT_POINT, kind, MsFlags::MS_RDONLY, None::<&str>)
        .map_err(CallError::on("mount", device))?;
    let found = read_file(&format!("{MOUNT_POINT}/boot.json"));
    umount2(MOUNT_POINT, MntFlags::MNT_DETACH).map_err(CallError::on("umount", MOUNT_POINT))?;
    found?.ok_or(SpecError::NotFound)
}

/// The document from the first byte to the first NUL.
fn read_raw(device: &str) -> Result<Found, SpecError> {
    let mut bytes = read_device(device, READ_LIMIT)?;
    if let Some(end) = bytes.iter().take(MAX_SPEC_BYTES).position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    Ok(Found { bytes, source_name: device.to_owned() })
}

fn read_start(device: &str) -> Result<Vec<u8>, SpecError> {
    read_device(device, FileSystem::DETECT_LEN as u64)
}

fn read_device(device: &str, limit: u64) -> Result<Vec<u8>, SpecError> {
    Ok(files::read(device, limit)?.ok_or_else(|| CallError::on("open", device)(Errno::ENOENT))?)
}

/// Whether a file system's own label is the boot spec's. Source: `s_volume_name` of ext4's super block and
/// `volume_name` of erofs', both 16 bytes; squashfs has none.
fn has_label(start: &[u8]) -> bool {
    let offset = match FileSystem::detect(start) {
        Some(FileSystem::Ext4) => 1024 + 0x78,
        Some(FileSystem::Erofs) => 1024 + 0x40,
        Some(FileSystem::Squashfs) | None => return false,
    };
    let label = start.get(offset..offset + 16).unwrap_or_default();
    label.split(|byte| *byte == 0).next() == Some(DISK_NAME.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ext4(label: &[u8]) -> Vec<u8> {
        let mut start = vec![0; FileSystem::DETECT_LEN];
        start[1080..1082].copy_from_slice(&[0x53, 0xef]);
        start[1024 + 0x78..][..label.len()].copy_from_slice(label);
        start
    }

    #[test]
    fn a_disk_is_known_by_its_whole_label() {
        assert!(has_label(&ext4(b"firstlight")));
        assert!(!has_label(&ext4(b"firstlight-2")));
        assert!(!has_label(&ext4(b"")));
        assert!(!has_label(&[0; 16]));
    }

    #[test]
    fn a_raw_document_ends_at_its_first_nul() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"{}\0\0rest").unwrap();
        assert_eq!(read_raw(file.path().to_str().unwrap()).unwrap().bytes, b"{}");
    }
}
