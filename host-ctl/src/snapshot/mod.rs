//! Snapshots: a VM's memory and disks at one instant, from which any number of VMs go on.
//!
//! ```text
//!  snapshot NAME SNAP:  draft ─► the VM's monitor writes memory, disks and guest.json ─► manifest ─► fsync ─► rename
//!  restore SNAP:        check the versions ─► a VM whose directory has the memory (linked) and overlays on the disks
//!                       ─► its monitor loads the memory, and tells the guest who it is
//! ```
//!
//! | in `snapshots/NAME/` | what |
//! | --- | --- |
//! | `manifest.json` | the [`Manifest`], written last |
//! | `memory` | the guest's memory, with holes where it is zeros |
//! | `devices` | what QEMU saved of the rest of the guest |
//! | `guest.json` | the [`Saved`] guest: its secrets, and how far its output had come |
//! | `disks/` | the disks' [`layers`](disks), each as it was; only ever read from then on |
//!
//! Files are hard links between a snapshot and the VMs made of it, so either can be removed without the other. Its own files are
//! made read-only when it is whole, and nobody writes to them from then on.

pub mod disks;
mod error;
pub mod manifest;
mod obstacle;
mod plan;
pub mod platform;
pub mod restore;
pub mod saved;
mod seal;
pub mod sparse;
pub mod store;
mod take;

pub use error::SnapshotError;
pub use manifest::Manifest;
pub use obstacle::Obstacle;
pub use plan::{Memory, Plan};
pub use restore::{Identity, make};
pub use saved::Saved;
pub use seal::{FileStamp, Seal, Sealed};
pub use store::{Snapshot, SnapshotDraft, Snapshots};
pub use take::{TakeError, take};

/// Names inside a snapshot's directory, and inside the `restore/` of a VM that begins with it.
pub mod name {
    /// The manifest.
    pub const MANIFEST: &str = "manifest.json";
    /// The memory.
    pub const MEMORY: &str = "memory";
    /// The state of the processors and devices.
    pub const DEVICES: &str = "devices";
    /// What was known of the guest.
    pub const GUEST: &str = "guest.json";
    /// What a VM begins with, its disks apart.
    pub const BEGINNING: [&str; 3] = [MEMORY, DEVICES, GUEST];
    /// In a VM's `restore/`: the plan. With it, the VM is to be restored.
    pub const PLAN: &str = "plan.json";
    /// The disks.
    pub const DISKS: &str = "disks";
    /// Held by whoever works on a draft.
    pub const LOCK: &str = "lock";
    /// What a VM's first boot is restored from, in its directory.
    pub const RESTORE: &str = "restore";
}
