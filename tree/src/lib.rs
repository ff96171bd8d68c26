//! Trees of files as streams of entries (`protocol::message::copy`): read from a directory, written into one, and
//! nowhere else.
//!
//! ```text
//!  Root ── openat2(2): every path stays inside
//!   │
//!   ├── source   walks a file or directory ──► Entry, bytes, Entry, … ──► Outlet, mostly Frames
//!   └── Sink     takes entries and bytes: a file is seen under its name only once it is whole
//!         ├── placement   where a source lands, after the rules of docker cp   (pure)
//!         ├── file        an unnamed file, then one link or rename
//!         ├── ledger      temporary names, for the process that follows a killed one
//!         └── staging     a new directory under another name, then one rename
//! ```
//!
//! For a sync, [`describe`] says what is in a directory, [`send_selected`] sends a part of it, and [`amend`] removes and adjusts.
//!
//! [`manage`] is what is done to single names: stat, list, make, remove, rename.
//!
//! Guest agent and host share it, because a copy does the same at both ends. Nothing here waits for a peer; everything
//! blocks on the file system, so callers give it a thread.

pub mod manage;

mod amend;
mod attributes;
mod describe;
mod error;
mod exclude;
mod frames;
mod metadata;
mod names;
mod remove;
mod root;
mod sink;
mod source;
mod sparse;

pub use amend::amend;
pub use describe::describe;
pub use error::Error;
pub use exclude::Exclude;
pub use frames::Frames;
pub use root::Root;
pub use sink::{Ledger, Leftovers, Sink};
pub use source::{Outlet, Reading, send, send_selected};
