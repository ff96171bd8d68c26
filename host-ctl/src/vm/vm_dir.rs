//! One VM's directory, and what can be read from it without a monitor.

use std::io;
use std::path::{Path, PathBuf};

use firstlight_protocol::boot_spec::{BootSpec, BootSpecError};
use firstlight_protocol::hex::Secret;

use super::fold::{Boot, Fold};
use super::journal::{Journal, JournalError};
use super::lock::Lock;
use super::spec::{SpecError, VmSpec};
use super::view::{Liveness, VmView};
use crate::agent::transport::Address;
use crate::clock;

/// Names inside a VM's directory. Processes that have it as working directory use them as they are.
pub mod name {
    /// The spec.
    pub const SPEC: &str = "vm.json";
    /// The journal.
    pub const JOURNAL: &str = "journal";
    /// Held by the monitor for as long as it lives.
    pub const MONITOR_LOCK: &str = "monitor.lock";
    /// The monitor's socket.
    pub const MONITOR_SOCKET: &str = "monitor.sock";
    /// Where the monitor connects its clients to the guest, for a vhost-user vsock backend.
    pub const DIALER_SOCKET: &str = "boot/dialer.sock";
    /// Everything from the serial console.
    pub const SERIAL_LOG: &str = "serial.log";
    /// The program's output.
    pub const OUTPUT_LOG: &str = "output.log";
    /// What the running boot needs.
    pub const BOOT: &str = "boot";
}

/// A VM's directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum VmDirError {
    /// A system call failed.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// `vm.json` is no spec.
    #[error("{}: {source}", .path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: SpecError,
    },
    /// The boot spec of the running boot cannot be read.
    #[error("{}: {source}", .path.display())]
    BootSpec {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: BootSpecError,
    },
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A VM's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmDir {
    path: PathBuf,
    spec: VmSpec,
}

impl VmDir {
    /// Opens the VM in the directory `path`.
    ///
    /// # Errors
    /// [`VmDirError`]; a directory without `vm.json` is an [`io::ErrorKind::NotFound`].
    pub fn open(path: &Path) -> Result<VmDir, VmDirError> {
        let file = path.join(name::SPEC);
        let bytes = std::fs::read(&file).map_err(|source| failed("read", &file, source))?;
        let spec = VmSpec::from_json(&bytes).map_err(|source| VmDirError::Spec { path: file, source })?;
        Ok(VmDir { path: path.to_owned(), spec })
    }

    /// What the VM is made of.
    #[must_use]
    pub fn spec(&self) -> &VmSpec {
        &self.spec
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file of it, by one of the names in [`name`].
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Everything the journal says, added up.
    ///
    /// # Errors
    /// [`VmDirError::Journal`].
    pub fn fold(&self) -> Result<Fold, VmDirError> {
        Ok(Fold::of(&Journal::read(&self.file(name::JOURNAL))?))
    }

    /// What can be said of the VM now. Reading never writes.
    ///
    /// # Errors
    /// [`VmDirError::Journal`].
    pub fn view(&self) -> Result<VmView, VmDirError> {
        let fold = self.fold()?;
        let liveness = self.liveness(&fold);
        Ok(VmView::new(&self.spec, &fold, liveness))
    }

    /// Whether a monitor watches the VM.
    ///
    /// # Errors
    /// [`VmDirError::Io`].
    pub fn has_monitor(&self) -> Result<bool, VmDirError> {
        let path = self.file(name::MONITOR_LOCK);
        Lock::is_held(&path).map_err(|source| failed("look at", &path, source))
    }

    /// What the processes of the host say of the boot `fold` ends with.
    #[must_use]
    pub fn liveness(&self, fold: &Fold) -> Liveness {
        let starting = fold.boot().is_some_and(|boot| boot.vmm.is_none() && !boot.is_closed());
        // Between the boot's first record and the VMM's, only its monitor can tell.
        match (starting, self.has_monitor()) {
            (true, Ok(true)) => Liveness::Alive,
            (true, Err(_)) => Liveness::Unknown,
            (true, Ok(false)) | (false, _) => self.liveness_without_monitor(fold),
        }
    }

    /// The same, for the holder of the monitor's lock.
    #[must_use]
    pub fn liveness_without_monitor(&self, fold: &Fold) -> Liveness {
        match fold.boot().map(vmm_runs) {
            None | Some(Ok(false)) => Liveness::Gone,
            Some(Ok(true)) => Liveness::Alive,
            Some(Err(_)) => Liveness::Unknown,
        }
    }

    /// The boot spec of the running boot, which holds its secrets.
    ///
    /// # Errors
    /// [`VmDirError`], also when the VM was never started.
    pub fn boot_spec(&self) -> Result<BootSpec, VmDirError> {
        let path = self.path.join(name::BOOT).join("boot.json");
        let bytes = std::fs::read(&path).map_err(|source| failed("read", &path, source))?;
        BootSpec::from_json(&bytes).map_err(|source| VmDirError::BootSpec { path, source })
    }

    /// Where the agent of the running boot is reached, and the token it asks for; `None` when the VM was never
    /// started, has no vsock, or runs without an agent.
    ///
    /// # Errors
    /// [`VmDirError`].
    pub fn agent(&self) -> Result<Option<(Address, Secret)>, VmDirError> {
        self.agent_of(&self.fold()?)
    }

    /// [`VmDir::agent`], for whoever has added up the journal already.
    ///
    /// # Errors
    /// [`VmDirError`].
    pub fn agent_of(&self, fold: &Fold) -> Result<Option<(Address, Secret)>, VmDirError> {
        let address = fold.boot().and_then(|boot| boot.vsock.clone());
        let Some(address) = address else { return Ok(None) };
        let Some(agent) = self.boot_spec()?.agent else { return Ok(None) };
        Ok(Some((self.absolute(address), agent.token)))
    }

    /// An address of the journal as seen from any working directory.
    fn absolute(&self, address: Address) -> Address {
        match address {
            Address::VhostUser(path) => {
                Address::Monitor { dialer: self.file(name::DIALER_SOCKET), backend: self.path.join(path) }
            }
            Address::Monitor { dialer, backend } => {
                Address::Monitor { dialer: self.path.join(dialer), backend: self.path.join(backend) }
            }
            Address::Serial(path) => Address::Serial(self.path.join(path)),
            Address::Unix(path) => Address::Unix(self.path.join(path)),
            Address::Kernel(cid) => Address::Kernel(cid),
        }
    }
}

/// Whether the VMM of `boot` runs. A VMM is recorded before it executes, so one that is not recorded does not run.
fn vmm_runs(boot: &Boot) -> io::Result<bool> {
    // A host that was booted since has none of its processes left, whatever their pids.
    if clock::host_boot_id()? != boot.host_boot {
        return Ok(false);
    }
    boot.vmm.map_or(Ok(false), |process| process.is_alive())
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> VmDirError {
    VmDirError::Io { operation, path: path.to_owned(), source }
}
