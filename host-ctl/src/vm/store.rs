//! The state directory: which VMs there are, and who gets a name.
//!
//! A VM is prepared in a draft directory that no listing shows and appears under its name by one `rename(2)`, whole or
//! not at all. The name is free or taken at that instant: a directory that is not empty is never replaced. Removal is
//! the same in reverse.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use tokio::time::{Duration, Instant};

use super::draft::Draft;
use super::fold::Boot;
use super::hidden_dir;
use super::id::is_name;
use super::journal::{Journal, JournalError};
use super::lock::Lock;
use super::record::{Entry, Record};
use super::spec::{SpecError, VmSpec};
use super::view::Liveness;
use super::vm_dir::{VmDir, VmDirError, name};
use crate::backoff::{Attempt, jitter, retry};

/// How long a monitor may take from its VM's end to its own. Slow clients are given up earlier than this.
const MONITOR_DEADLINE: Duration = Duration::from_secs(10);

/// The store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A VM of that name exists.
    #[error("the name {name:?} is taken; choose another, or remove that VM with `host-ctl rm {name}`")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// No VM has that name, and no id begins like that.
    #[error("no VM is called {wanted:?}; `host-ctl ps -a` lists all")]
    NotFound {
        /// What was asked for.
        wanted: String,
    },
    /// More than one id begins like that.
    #[error("{wanted:?} is the beginning of several ids: {}", .names.join(", "))]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// The VMs it could mean.
        names: Vec<String>,
    },
    /// The VM's VMM or monitor runs.
    #[error("{name:?} is in use: its VMM or its monitor runs; stop it first, or remove it with `rm -f`")]
    InUse {
        /// The VM.
        name: String,
    },
    /// The name cannot be one.
    #[error(
        "{name:?} cannot be a name: letters, digits, `_`, `.` and `-`, not starting with one of these three"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// The spec is no valid one.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The VM's directory cannot be read.
    #[error(transparent)]
    VmDir(#[from] VmDirError),
    /// The first record cannot be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A system call failed.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// A state directory.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the state directory, making it if there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(state_dir: &Path) -> Result<Store, StoreError> {
        make_private_dir(&state_dir.join("vms"))?;
        // Symbolic links resolved once: every later process names the directory the same.
        let root = state_dir.canonicalize().map_err(|source| failed("open", state_dir, source))?;
        Ok(Store { root })
    }

    /// The state directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn vms(&self) -> PathBuf {
        self.root.join("vms")
    }

    /// Begins a VM: a private directory to prepare its files in. Nobody sees it before [`Draft::commit`].
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] already here, so that nothing expensive is prepared in vain.
    pub fn draft(&self, name: &str) -> Result<Draft, StoreError> {
        if !is_name(name) {
            return Err(StoreError::BadName { name: name.to_owned() });
        }
        if self.vms().join(name).join(name::SPEC).exists() {
            return Err(StoreError::NameTaken { name: name.to_owned() });
        }
        hidden_dir::sweep(&self.vms(), name::MONITOR_LOCK);
        Draft::new(self, name)
    }

    /// Makes a VM that needs no files prepared.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] and others.
    pub fn create(&self, spec: &VmSpec) -> Result<VmDir, StoreError> {
        self.draft(&spec.name)?.commit(spec)
    }

    /// Every VM, by name. One that is removed meanwhile is left out.
    ///
    /// # Errors
    /// [`StoreError`] when the directory or a VM in it cannot be read.
    pub fn list(&self) -> Result<Vec<VmDir>, StoreError> {
        let vms = self.vms();
        let mut found = Vec::new();
        for entry in fs::read_dir(&vms).map_err(|source| failed("read", &vms, source))? {
            let entry = entry.map_err(|source| failed("read", &vms, source))?;
            if !entry.file_name().to_str().is_some_and(is_name) {
                continue;
            }
            if let Some(vm) = open(&entry.path())? {
                found.push(vm);
            }
        }
        found.sort_by(|a, b| a.spec().name.cmp(&b.spec().name));
        Ok(found)
    }

    /// The VM with this name, or whose id alone begins like this. A name goes before an id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] or [`StoreError::Ambiguous`].
    pub fn resolve(&self, wanted: &str) -> Result<VmDir, StoreError> {
        if is_name(wanted)
            && let Some(vm) = open(&self.vms().join(wanted))?
        {
            return Ok(vm);
        }
        let mut all = self.list()?;
        all.retain(|vm| !wanted.is_empty() && vm.spec().id.to_string().starts_with(wanted));
        match all.len() {
            0 => Err(StoreError::NotFound { wanted: wanted.to_owned() }),
            1 => Ok(all.remove(0)),
            _ => {
                let names = all.iter().map(|vm| vm.spec().name.clone()).collect();
                Err(StoreError::Ambiguous { wanted: wanted.to_owned(), names })
            }
        }
    }

    /// As [`Store::remove`], for a VM that has just ended: waits until its monitor has told everybody and is gone.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while the VM runs, and when its monitor does not end in time.
    pub async fn remove_when_ended(&self, vm: &VmDir) -> Result<(), StoreError> {
        retry(Instant::now() + MONITOR_DEADLINE, jitter, async || match self.remove(vm) {
            Err(error @ StoreError::InUse { .. }) => match vm.fold() {
                Ok(fold) if fold.boot().is_none_or(Boot::is_closed) => Attempt::NotYet(error),
                Ok(_) | Err(_) => Attempt::Done(Err(error)),
            },
            result => Attempt::Done(result),
        })
        .await?
    }

    /// Removes a VM that does not run, with all its files. Removing one that is gone already is a
    /// [`StoreError::NotFound`].
    ///
    /// # Errors
    /// [`StoreError::InUse`] while its VMM or a monitor runs.
    pub fn remove(&self, vm: &VmDir) -> Result<(), StoreError> {
        let path = vm.file(name::MONITOR_LOCK);
        let lock = match Lock::try_take(&path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone(vm)),
            Err(source) => return Err(failed("lock", &path, source)),
        };
        let Some(lock) = lock else { return Err(StoreError::InUse { name: vm.spec().name.clone() }) };
        remove_locked(vm, &lock)
    }
}

/// Removes a VM whose lock the caller holds.
///
/// # Errors
/// [`StoreError::InUse`] while its VMM runs.
pub fn remove_locked(vm: &VmDir, lock: &Lock) -> Result<(), StoreError> {
    // Somebody else may have removed it, and a third made it anew, since the caller looked it up.
    match VmDir::open(vm.path()) {
        Ok(current) if current.spec().id == vm.spec().id => {}
        Ok(_) => return Err(gone(vm)),
        Err(VmDirError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(gone(vm));
        }
        // A spec this build cannot read is no reason to keep its files.
        Err(_) => {}
    }
    let fold = vm.fold()?;
    let closed = fold.boot().is_none_or(Boot::is_closed);
    if !closed && vm.liveness_without_monitor(&fold) != Liveness::Gone {
        return Err(StoreError::InUse { name: vm.spec().name.clone() });
    }
    match hidden_dir::remove(vm.path(), name::MONITOR_LOCK, lock) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Err(gone(vm)),
        removed => removed,
    }
}

fn gone(vm: &VmDir) -> StoreError {
    StoreError::NotFound { wanted: vm.spec().name.clone() }
}

/// Opens a VM; `None` if there is none, or none any more.
fn open(path: &Path) -> Result<Option<VmDir>, StoreError> {
    match VmDir::open(path) {
        Ok(vm) => Ok(Some(vm)),
        Err(VmDirError::Io { source, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes `path` and what is missing above it; only its owner may look inside.
pub(crate) fn make_private_dir(path: &Path) -> Result<(), StoreError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| failed("make", path, source))
}

pub(super) fn failed(operation: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { operation, path: path.to_owned(), source }
}

/// The first record of a VM, on disk before the VM is seen.
pub(super) fn record_creation(journal: &Path) -> Result<(), StoreError> {
    let (mut journal, _) = Journal::open(journal)?;
    Ok(journal.append(&[Record::now(Entry::Created)])?)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
