//! How a VM begins with a snapshot: what is decided where the VM is made, for the monitor that starts it.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Sealed, SnapshotError, name};

/// How a VM gets the memory that it begins with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Memory {
    /// It gets a copy, which is its own, and which any road to it may share.
    #[default]
    Copied,
    /// It sees the snapshot's file itself, and keeps to itself what it changes: a private mapping (`mmap(2)`,
    /// `MAP_PRIVATE`). That costs no time and only the memory that is changed. Nobody else can see such a memory, so that the
    /// guest has to be reached over a serial port, and cannot be saved.
    Mapped,
}

/// The plan, in the VM's `restore/` until the guest moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What the files it begins with were when they were saved, relative to the VM's directory.
    pub files: Vec<Sealed>,
    /// How it gets its memory.
    pub memory: Memory,
    /// Whether the guest is held still until somebody resumes it.
    pub paused: bool,
}

impl Plan {
    /// Where the plan of the VM in `vm_dir` is.
    #[must_use]
    pub fn path(vm_dir: &Path) -> PathBuf {
        vm_dir.join(name::RESTORE).join(name::PLAN)
    }

    /// Reads that of the VM in `vm_dir`.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn read(vm_dir: &Path) -> Result<Plan, SnapshotError> {
        let path = Plan::path(vm_dir);
        let bytes = fs::read(&path).map_err(SnapshotError::io("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|error| SnapshotError::io("parse", &path)(error.into()))
    }

    /// Writes it. With it the VM is to be restored.
    ///
    /// # Errors
    /// [`SnapshotError::Io`].
    pub fn write(&self, vm_dir: &Path) -> Result<(), SnapshotError> {
        let path = Plan::path(vm_dir);
        let text =
            serde_json::to_vec(self).map_err(|error| SnapshotError::io("encode", &path)(error.into()))?;
        fs::write(&path, text).map_err(SnapshotError::io("write", &path))
    }

    /// Whether every file is what was saved. One that is copied is read to its end in any case; of one that is mapped only
    /// what needs it is read.
    ///
    /// # Errors
    /// [`SnapshotError::Corrupt`], which names the file of the snapshot `name`.
    pub fn check(&self, vm_dir: &Path, name: &str) -> Result<(), SnapshotError> {
        self.files.iter().try_for_each(|file| match self.memory {
            Memory::Copied => file.check(vm_dir, name),
            Memory::Mapped => file.check_untouched(vm_dir, name),
        })
    }
}
