//! Making a directory on one side like one on the other, by sending what differs.
//!
//! The host has both trees described, decides, and has the difference sent: into the guest with [`super::copy::PushRequest`],
//! out of it with [`FetchRequest`]. [`AmendRequest`] does the rest, and removes what is too much only then.
//!
//! The agent decides nothing and remembers nothing between requests, so its memory does not grow with the trees.

use super::copy::is_below;
use super::file::{Place, Timestamp};

/// Most patterns of one [`TreeRequest`].
pub const MAX_PATTERNS: usize = 256;

/// The longest pattern in bytes. Matching costs its length times that of each name.
pub const MAX_PATTERN: usize = 1024;

/// Bytes of paths that senders put in one message with many, so that it fits its frame whatever the paths are.
pub const BATCH: usize = 256 * 1024;

/// Describe what is in a directory, the directory itself first.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct TreeRequest {
    /// The directory. A symbolic link there stands for what it points to.
    pub place: Place,
    /// Whether files are read to their ends for a [`Digest`].
    pub checksum: bool,
    /// Patterns of what is left out, with all that is in it; `docs/sync.md` has their rules.
    pub exclude: Vec<Vec<u8>>,
}

/// SHA-256 of a file's content, holes read as zeros.
pub type Digest = [u8; 32];

/// A part of the description, parents before what is in them.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct TreeItems {
    /// The items.
    pub items: Vec<Item>,
}

/// The description is whole.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct TreeEnd {
    /// Sockets, pipes and devices, which are not described.
    pub special: u64,
}

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Item {
    /// Where it is below the directory, or empty for the directory itself.
    pub path: Vec<u8>,
    /// Permissions, at most `0o1777`: set-id bits mean something only with an owner, and none is kept.
    pub mode: u32,
    /// When its content last changed.
    pub modified: Timestamp,
    /// What it is.
    pub content: ItemContent,
}

/// What an item is.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum ItemContent {
    /// A directory.
    Directory,
    /// A regular file. One with several names is as many files.
    File {
        /// Bytes, holes included.
        size: u64,
        /// What is in it, when asked for.
        digest: Option<Digest>,
    },
    /// A symbolic link to this path.
    Symlink(Vec<u8>),
}

impl Item {
    /// Whether an item is one that a host may act on: its path stays below the directory.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.path.is_empty() || is_below(&self.path)
    }
}

/// Send these files of a directory, in this order, as a copy without the directory itself: `CopyEntry` and `CopyData`, then
/// `CopyEnd`. Those that are not there any more are left out; directories come without what is in them.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct FetchRequest {
    /// The directory.
    pub place: Place,
    /// Whose they become, in place of their owner's.
    pub owner: Owner,
    /// Their paths below it.
    pub paths: Vec<Vec<u8>>,
}

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Remove, then adjust, in this order. `AmendDone` answers.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct AmendRequest {
    /// The directory.
    pub place: Place,
    /// What goes, what is in a directory before the directory.
    pub remove: Vec<Removal>,
    /// What gets another mode or time.
    pub adjust: Vec<Adjustment>,
}

/// Something that goes.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Removal {
    /// Where it is below the directory.
    pub path: Vec<u8>,
    /// Whether it is a directory. One that is not empty, because something in it was excluded, stays.
    pub directory: bool,
}

/// A file or directory that is right but for this.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Adjustment {
    /// Where it is below the directory, or empty for the directory itself.
    pub path: Vec<u8>,
    /// Its permissions.
    pub mode: u32,
    /// When its content last changed.
    pub modified: Timestamp,
}

/// What an [`AmendRequest`] came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct AmendDone {
    /// What was there and is gone.
    pub removed: u64,
}
