//! A VM that nobody sees yet.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use firstlight_protocol::hex;

use super::lock::Lock;
use super::spec::VmSpec;
use super::store::{Store, StoreError, failed, make_private_dir, record_creation};
use super::vm_dir::{VmDir, name};

/// What the names of hidden directories begin with; no VM's can.
const HIDDEN: &str = ".";

/// How often a new directory is tried before giving up; the second try succeeds unless a sweep hits both.
const ATTEMPTS: u32 = 8;

/// A directory in which a VM's files are prepared. Dropping it removes them; so does the next draft when its process
/// was killed.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    vms: PathBuf,
    name: String,
    committed: bool,
    /// Tells a draft that is worked on from one that was left behind. It is the later VM's monitor lock.
    lock: Option<Lock>,
}

impl Draft {
    pub(super) fn new(store: &Store, vm_name: &str) -> Result<Draft, StoreError> {
        let vms = store.vms();
        for _ in 0..ATTEMPTS {
            let path = hidden_path(&vms.join(vm_name)).map_err(|source| failed("name", &vms, source))?;
            make_private_dir(&path)?;
            let lock_path = path.join(name::MONITOR_LOCK);
            match Lock::try_take(&lock_path) {
                Ok(Some(lock)) => {
                    return Ok(Draft {
                        path,
                        vms,
                        name: vm_name.to_owned(),
                        committed: false,
                        lock: Some(lock),
                    });
                }
                // A sweep came between making the file and locking it, and takes the directory away.
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(failed("lock", &lock_path, source)),
            }
        }
        Err(failed("lock a new directory in", &vms, io::ErrorKind::ResourceBusy.into()))
    }

    /// The directory. Files in it are the VM's own; a spec names them by relative paths.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the VM: from here on it exists, whole, under its name.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] when another was faster.
    pub fn commit(mut self, spec: &VmSpec) -> Result<VmDir, StoreError> {
        debug_assert_eq!(spec.name, self.name);
        spec.validate()?;
        let file = self.path.join(name::SPEC);
        fs::write(&file, spec.to_json()?).map_err(|source| failed("write", &file, source))?;
        record_creation(&self.path.join(name::JOURNAL))?;
        let path = self.vms.join(&self.name);
        fs::rename(&self.path, &path).map_err(|source| {
            if matches!(source.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) {
                StoreError::NameTaken { name: self.name.clone() }
            } else {
                failed("make", &path, source)
            }
        })?;
        self.committed = true;
        self.lock = None;
        Ok(VmDir::open(&path)?)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed {
            // What cannot be removed now is swept up by the next draft.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// A new name beside `path` that no listing shows.
pub(super) fn hidden_path(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let random = hex::encode(&crate::random::bytes::<6>()?);
    Ok(path.with_file_name(format!("{HIDDEN}{name}.{random}")))
}

/// Removes hidden directories whose process is gone: drafts, and VMs that were being removed. What cannot be removed
/// harms nobody and is tried again next time.
pub(super) fn sweep(vms: &Path) {
    let Ok(entries) = fs::read_dir(vms) else { return };
    for entry in entries.flatten() {
        let hidden = entry.file_name().to_str().is_some_and(|name| name.starts_with(HIDDEN));
        // One without its lock file is being made this very instant.
        let lock = entry.path().join(name::MONITOR_LOCK);
        // Held until all is removed: a draft that comes in between would lose its files.
        if hidden
            && lock.exists()
            && let Ok(Some(_held)) = Lock::try_take(&lock)
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
