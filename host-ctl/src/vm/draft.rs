//! A VM that nobody sees yet.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::hidden_dir::HiddenDir;
use super::spec::VmSpec;
use super::store::{Store, StoreError, failed, record_creation};
use super::vm_dir::{VmDir, name};

/// A directory in which a VM's files are prepared. Dropping it removes them; so does the next draft when its process
/// was killed.
#[derive(Debug)]
pub struct Draft {
    /// Its lock is the later VM's monitor lock.
    dir: HiddenDir,
    vms: PathBuf,
    name: String,
}

impl Draft {
    pub(super) fn new(store: &Store, vm_name: &str) -> Result<Draft, StoreError> {
        let vms = store.vms();
        let dir = HiddenDir::make(&vms, vm_name, name::MONITOR_LOCK)?;
        Ok(Draft { dir, vms, name: vm_name.to_owned() })
    }

    /// The directory. Files in it are the VM's own; a spec names them by relative paths.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Makes the VM: from here on it exists, whole, under its name.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] when another was faster.
    pub fn commit(self, spec: &VmSpec) -> Result<VmDir, StoreError> {
        debug_assert_eq!(spec.name, self.name);
        spec.validate()?;
        let file = self.path().join(name::SPEC);
        fs::write(&file, spec.to_json()?).map_err(|source| failed("write", &file, source))?;
        record_creation(&self.path().join(name::JOURNAL))?;
        let path = self.vms.join(&self.name);
        self.dir.show(&path).map_err(|source| {
            if matches!(source.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) {
                StoreError::NameTaken { name: self.name.clone() }
            } else {
                failed("make", &path, source)
            }
        })?;
        Ok(VmDir::open(&path)?)
    }
}
