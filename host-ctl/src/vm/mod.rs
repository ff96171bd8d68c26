//! What the host knows of a VM.
//!
//! ```text
//!  VmSpec ── written once ──► vms/NAME/vm.json
//!  Record ── appended ──────► vms/NAME/journal ── folded with the VMM's liveness ──► VmView
//! ```
//!
//! The state is never stored: every reader derives it from the same records.

pub mod draft;
pub mod fold;
pub mod headers_view;
pub(crate) mod hidden_dir;
pub mod id;
pub mod journal;
pub mod lock;
pub mod process;
pub mod record;
pub mod spec;
pub mod store;
pub mod timings;
pub mod view;
pub mod vm_dir;

pub use draft::Draft;
pub use fold::Fold;
pub use headers_view::HeadersView;
pub use id::VmId;
pub use journal::Journal;
pub use process::ProcessId;
pub use record::{Entry, Record};
pub use spec::VmSpec;
pub use store::Store;
pub use view::VmView;
pub use vm_dir::VmDir;
