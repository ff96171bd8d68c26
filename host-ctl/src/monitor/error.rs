//! Why a monitor cannot do its work.

use std::io;
use std::path::{Path, PathBuf};

use crate::boot::cache::CacheError;
use crate::boot::initramfs::InitramfsError;
use crate::driver::accel::NoKvm;
use crate::driver::qemu::qmp::QmpError;
use crate::log::LogError;
use crate::snapshot::SnapshotError;
use crate::vm::journal::JournalError;
use crate::vm::vm_dir::VmDirError;

/// A monitor could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
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
    /// Another monitor watches the VM.
    #[error("another monitor watches the VM")]
    Taken,
    /// A program could not be started.
    #[error("cannot start {program}: {source}")]
    Spawn {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// KVM was asked for in vain.
    #[error(transparent)]
    NoKvm(#[from] NoKvm),
    /// The host can give the guest no vsock.
    #[error("this host has no /dev/vhost-vsock, and no vhost-device-vsock was found when the VM was made")]
    NoVsock,
    /// The VMM ended before it had made its machine.
    #[error("the VMM refused to start: {reason}")]
    VmmRefused {
        /// Its last words.
        reason: String,
    },
    /// The VMM cannot be spoken to.
    #[error("the VMM does not answer: {0}")]
    Vmm(QmpError),
    /// The vsock backend ended before it listened.
    #[error("the vsock backend refused to start: {reason}")]
    BackendRefused {
        /// Its last words.
        reason: String,
    },
    /// The boot directory is not that of the boot that runs.
    #[error("boot/boot.json belongs to another boot than the one that runs; kill the VM to end it")]
    OtherBoot,
    /// The initramfs could not be made.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// The kernel could not be unpacked into the cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The snapshot cannot be restored.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The VM's directory cannot be read.
    #[error(transparent)]
    VmDir(#[from] VmDirError),
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A log cannot be read or written.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl MonitorError {
    pub(super) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MonitorError {
        let path = path.to_owned();
        move |source| MonitorError::Io { operation, path, source }
    }
}
