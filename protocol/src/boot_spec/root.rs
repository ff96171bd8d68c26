//! The root file system: a lower layer to read, and where writes go.

use serde::{Deserialize, Serialize};

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// What is read.
    pub source: RootSource,
    /// Where writes go.
    #[serde(default, skip_serializing_if = "super::goes_without_saying")]
    pub upper: RootUpper,
}

/// Where the root's contents come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RootSource {
    /// A directory of the initramfs, by absolute path. It stays in memory for as long as the VM runs.
    Initramfs(String),
    /// A disk.
    Disk(Disk),
}

/// Where writes to the root go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RootUpper {
    /// An overlay on tmpfs: lost at power-off.
    #[default]
    Tmpfs,
    /// An overlay on a writable disk: kept.
    Disk(Disk),
    /// The source itself, mounted read-write. Not for an erofs or squashfs source. A directory of the initramfs is memory
    /// as a tmpfs is, so nothing is gained by an overlay on it.
    Direct,
    /// Nowhere: the source, mounted read-only.
    ReadOnly,
}

/// A disk with a file system on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its virtio serial: 1 to 20 bytes of printable ASCII. Names such as `vda` depend on probing order, serials do
    /// not. Source: `VIRTIO_BLK_T_GET_ID` in the virtio specification.
    pub serial: String,
    /// The file system on it.
    pub file_system: FileSystem,
}

/// The file systems init mounts from disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileSystem {
    /// ext4.
    Ext4,
    /// erofs; read-only.
    Erofs,
    /// squashfs; read-only.
    Squashfs,
}

impl FileSystem {
    /// Bytes of a disk's start that [`FileSystem::detect`] looks at.
    pub const DETECT_LEN: usize = 2048;

    /// The name `mount(2)` knows it by; its kernel module has the same.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Erofs => "erofs",
            FileSystem::Squashfs => "squashfs",
        }
    }

    /// Whether it can never be written.
    #[must_use]
    pub fn is_read_only(self) -> bool {
        match self {
            FileSystem::Ext4 => false,
            FileSystem::Erofs | FileSystem::Squashfs => true,
        }
    }

    /// Recognizes a file system by the magic number in its super block. Source: `linux/magic.h`, and the offsets of
    /// the super blocks in `fs/{ext4,erofs,squashfs}`.
    #[must_use]
    pub fn detect(start: &[u8]) -> Option<FileSystem> {
        let has = |offset: usize, magic: &[u8]| start.get(offset..offset + magic.len()) == Some(magic);
        if has(1024 + 0x38, &0xEF53_u16.to_le_bytes()) {
            Some(FileSystem::Ext4)
        } else if has(1024, &0xE0F5_E1E2_u32.to_le_bytes()) {
            Some(FileSystem::Erofs)
        } else if has(0, b"hsqs") {
            Some(FileSystem::Squashfs)
        } else {
            None
        }
    }
}
