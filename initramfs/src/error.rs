//! What can go wrong while an initramfs is packed.

use std::io;
use std::path::{Path, PathBuf};

use firstlight_protocol::boot_spec::BootSpecError;

use crate::cpio::EntryError;

/// An initramfs could not be packed. Every variant names the file it is about.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host's file system refused an operation.
    #[error("cannot {operation} {path}: {source}", path = path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The archive cannot hold this entry.
    #[error("cannot put {path} into an initramfs: {source}", path = path.display())]
    Entry {
        /// The path in the guest.
        path: PathBuf,
        /// Why not.
        source: EntryError,
    },
    /// A module is neither in the tree nor built into its kernel.
    #[error(
        "kernel module {name} is not in {tree}, nor is it built into that kernel: check the name, or give the \
         modules of a kernel that has it",
        tree = tree.display()
    )]
    ModuleMissing {
        /// The module asked for.
        name: String,
        /// The `lib/modules/RELEASE` directory that was searched.
        tree: PathBuf,
    },
    /// The directory given for kernel modules has no list of dependencies.
    #[error(
        "{tree} has no modules.dep: name a lib/modules/RELEASE directory, or run `depmod -b BASE RELEASE` to make one",
        tree = tree.display()
    )]
    NotAModuleTree {
        /// The directory that was given.
        tree: PathBuf,
    },
    /// A line of a module list is not what `modules.dep(5)` describes.
    #[error("{path}, line {line}: {reason}", path = path.display())]
    ModuleList {
        /// The list.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A compressed kernel module is over the limit when it is decompressed.
    #[error("{path} is more than {limit} bytes when decompressed", path = path.display())]
    ModuleTooLarge {
        /// The compressed module.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// The busybox given for the built-in root could not be asked what it can do.
    #[error("{path} cannot be the busybox of the built-in root: {reason}", path = path.display())]
    Busybox {
        /// The binary.
        path: PathBuf,
        /// What it did instead of listing its applets.
        reason: String,
    },
    /// The boot spec is one that no init would accept.
    #[error(transparent)]
    BootSpec(#[from] BootSpecError),
}

impl Error {
    /// For `map_err`: an I/O error with its operation and path.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { operation, path: path.to_owned(), source }
    }
}
