//! Files of the guest: looking at them, and changing their names.
//!
//! A path is resolved inside a root as if the agent had `chroot(2)`ed there: `..` at its top stays there, and absolute
//! symbolic links begin there. Nothing outside the root is reached, whoever renames what meanwhile (`openat2(2)`).

use serde::Serialize;

/// Most entries of one [`FileList`]. The longest names Linux allows still fit in a frame with their metadata.
pub const MAX_LISTED: usize = 2048;

/// A path of the guest, as bytes: Linux knows no encoding.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Place {
    /// The directory that is `/` to the path.
    pub root: Vec<u8>,
    /// The path inside it, absolute or not.
    pub path: Vec<u8>,
}

impl Place {
    /// A path of the guest's own root.
    #[must_use]
    pub fn new(path: impl Into<Vec<u8>>) -> Place {
        Place { root: b"/".to_vec(), path: path.into() }
    }
}

/// What a name in a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, bincode::Encode, bincode::Decode)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// A time since the epoch, which files may also have before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, bincode::Encode, bincode::Decode)]
pub struct Timestamp {
    /// Whole seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds above them, under 10⁹.
    pub nanos: u32,
}

/// What is known of a file without reading it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Metadata {
    /// What it is.
    pub kind: FileKind,
    /// Permissions with the set-id and sticky bits, at most `0o7777`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes of content, holes included.
    pub size: u64,
    /// Bytes of storage taken.
    pub allocated: u64,
    /// When the content last changed.
    pub modified: Timestamp,
    /// How many names it has.
    pub links: u64,
    /// The file system's number of the file.
    pub inode: u64,
}

/// Look at one file.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct FileStatRequest {
    /// Which.
    pub place: Place,
    /// Whether a symbolic link at its end stands for what it points to.
    pub follow: bool,
}

/// What one file is.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct FileStat {
    /// The file.
    pub metadata: Metadata,
    /// Where it points, of a symbolic link.
    pub target: Option<Vec<u8>>,
}

/// List a directory in the order of its names' bytes, at most [`MAX_LISTED`] at a time.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct FileListRequest {
    /// The directory.
    pub place: Place,
    /// The last name of the list before, to go on after it.
    pub after: Option<Vec<u8>>,
}

/// A part of a directory.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct FileList {
    /// The names, without `.` and `..`.
    pub entries: Vec<Listed>,
    /// Whether names after these were there.
    pub more: bool,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Listed {
    /// The name.
    pub name: Vec<u8>,
    /// What it is; a symbolic link is itself.
    pub metadata: Metadata,
}

/// Make a directory.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct MakeDirRequest {
    /// Where.
    pub place: Place,
    /// Whether missing parents are made too, and a directory that is there already is no error.
    pub parents: bool,
    /// Its permissions, whatever the umask; parents get `0o755`.
    pub mode: u32,
}

/// Remove a file or a directory.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct RemoveRequest {
    /// Which. A symbolic link at its end is removed itself.
    pub place: Place,
    /// Whether a directory goes with all that is in it; otherwise only an empty one does.
    pub recursive: bool,
    /// Whether one that is not there is no error.
    pub ignore_missing: bool,
}

/// Give a file another name, at once: nobody sees both, or neither.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct RenameRequest {
    /// The file.
    pub from: Place,
    /// Its new path, in the same root. If it is a directory, the file goes into it under its old name.
    pub to: Vec<u8>,
    /// Whether a file that has the new name already stays, which is then an error.
    pub keep_existing: bool,
}
