//! What a snapshot is, written last: a snapshot without it is none.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::platform::Platform;
use super::seal::Sealed;
use crate::vm::{VmId, VmSpec};

/// The version of the document this build writes, and the only one it reads.
pub const VERSION: u32 = 2;

/// The manifest. Fields are never removed within a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always [`VERSION`].
    pub version: u32,
    /// The snapshot's name.
    pub name: String,
    /// The VM it was taken of.
    pub vm: String,
    /// That VM's id.
    pub vm_id: VmId,
    /// When, in RFC 3339.
    pub created_at: String,
    /// Bytes of memory and disks, as files.
    pub size: u64,
    /// Every other file in its directory, as it was saved.
    pub files: Vec<Sealed>,
    /// The VM's disks.
    pub disks: Vec<Disk>,
    /// Files of the VM's own directory that belong to it.
    #[serde(default)]
    pub linked: Vec<PathBuf>,
    /// Images that are only read, and stay where they are.
    #[serde(default)]
    pub shared: Vec<Shared>,
    /// What it runs on.
    pub platform: Platform,
    /// What the VM is made of.
    pub spec: VmSpec,
}

/// An image that is only read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    /// Where it is.
    pub path: PathBuf,
    /// What stands for its contents.
    pub stamp: String,
}

/// A disk of the VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its serial.
    pub serial: String,
    /// The files of its layers in `disks/`, the lowest first. None of them changes any more.
    pub layers: Vec<String>,
}
