//! Packs an initramfs: what the kernel unpacks into memory before it runs `/init`.
//!
//! A VM's initramfs is two archives, one after the other. The **shared** one ([`Shared`]) holds the programs, the
//! kernel modules and perhaps a root file system, and is the same for all VMs; the **segment** ([`vm_segment`])
//! holds one VM's boot spec with its secrets, and is small. The kernel unpacks whatever follows an archive as the
//! next one, so handing a VM its own files costs an append. `docs/architecture.md` says which file is where.
//!
//! The same input gives the same bytes: no clock, no inode number and no directory order of the host gets in.
//!
//! | room | does |
//! | --- | --- |
//! | [`cpio`] | writes the archive format; pure |
//! | [`modules`] | finds kernel modules and their dependencies in a `lib/modules/RELEASE` directory |
//! | [`decompress`] | opens `.ko.gz`, `.ko.xz` and `.ko.zst` |
//! | [`signature`] | takes the signatures off modules |
//! | [`tree`] | adds a directory of the host |
//! | [`busybox`] | adds a small root file system that is one binary |
//! | [`archive`] | says what goes where |

pub mod archive;
pub mod busybox;
pub mod cpio;
mod decompress;
mod error;
pub mod modules;
pub mod signature;
pub mod tree;

pub use archive::{BuiltinRoot, Shared, vm_segment};
pub use error::Error;
pub use signature::Signatures;
