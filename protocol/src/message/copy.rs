//! Copying files in bulk, either way.
//!
//! The sender describes the source as a stream of entries, parents before what is in them. The first has an empty path and is the
//! source itself; the paths of the others are relative to it. Behind each file come its bytes, holes left out:
//!
//! ```text
//!  Entry ""   directory          CopyData  every byte of every extent, in order, in frames of any size
//!  Entry "a"  file, extents ──►  CopyData …
//!  Entry "b"  symlink
//!  CopyEnd    totals
//! ```
//!
//! The receiver decides where the source lands ([`Shape`]), and shows a file under its name only once it is whole.
//! A stream that stops before `CopyEnd` is an interrupted copy.

use super::file::{Place, Timestamp};
use crate::frame::HEADER_LEN;

/// Bytes of content that senders put in one `CopyData` frame. Receivers take any size a frame may have. With its header it is the
/// largest packet of a vsock (`VIRTIO_VSOCK_MAX_PKT_BUF_SIZE`), so that no frame ends in a small one, and it is still in the
/// processor's cache when it is sent after having been read.
pub const CHUNK: usize = 64 * 1024 - HEADER_LEN;

/// Most pieces of one sparse file. What a file has beyond is sent as if it had no holes.
pub const MAX_EXTENTS: usize = 4096;

/// The longest path of an entry in bytes, and the longest target of a symbolic link: `PATH_MAX` less its NUL.
pub const MAX_PATH: usize = 4095;

/// Bytes of a refused entry's path that its error tells.
const SHOWN_PATH: usize = 256;

/// Names in a path below the source, at most: each directory entered is an open descriptor of the sender, and one whose
/// metadata the receiver still has to set.
pub const MAX_DEPTH: usize = 256;

/// Copy a source of the guest to the host. The agent answers with the stream.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct PullRequest {
    /// The source.
    pub place: Place,
    /// Whether a symbolic link at its end stands for what it points to. Links below are always copied as links.
    pub follow: bool,
}

/// Copy a source of the host into the guest. The host sends the stream at once, and reads the connection meanwhile: an
/// error may come at any time and ends the copy. After `CopyEnd` the agent answers with `CopyDone`.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct PushRequest {
    /// The destination. A slash at its end says that it is a directory.
    pub place: Place,
    /// How the source lands there.
    pub shape: Shape,
    /// Whether the answer waits until everything is on the disk.
    pub durable: bool,
}

/// How a source lands at its destination, after the rules of `docker cp`.
///
/// | source | destination is missing | is a file | is a directory |
/// | --- | --- | --- | --- |
/// | `Named` file or link | gets its name | is replaced | receives it under its own name |
/// | `Named` directory | is made, and gets its content | refused | receives it under its own name |
/// | `Contents` | is made, and gets its content | refused | gets its content |
/// | `Archive` | refused | refused | gets its content |
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Shape {
    /// It has a name.
    Named(Vec<u8>),
    /// What is in a directory, as a path that ends in `/.` says.
    Contents,
    /// What is in an archive.
    Archive,
}

/// One file of a source.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Entry {
    /// Where it is below the source, or empty for the source itself.
    pub path: Vec<u8>,
    /// Permissions with the set-id and sticky bits, at most `0o7777`.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When its content last changed.
    pub modified: Timestamp,
    /// Its extended attributes.
    pub attributes: Vec<Attribute>,
    /// What it is.
    pub content: Content,
}

/// An extended attribute (`xattr(7)`).
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Attribute {
    /// Its name with its namespace, such as `user.mime_type`.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Content {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Bytes, holes included.
        size: u64,
        /// The pieces that are no holes, in order.
        extents: Vec<Extent>,
    },
    /// A symbolic link to this path.
    Symlink(Vec<u8>),
    /// One more name of the file that came before with this path.
    HardLink(Vec<u8>),
}

/// A piece of a file that holds data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Extent {
    /// Bytes of the file before it.
    pub offset: u64,
    /// Its length in bytes, never zero.
    pub length: u64,
}

/// What a copy came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, bincode::Encode, bincode::Decode)]
pub struct Totals {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of content, holes left out.
    pub bytes: u64,
    /// Sockets, pipes and devices, which are not copied.
    pub special: u64,
    /// Extended attributes that the destination's file system, or its owner's rights, did not take.
    pub lost_attributes: u64,
}

/// An entry that no sender makes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused entry {}: {reason}", shown(.path))]
pub struct BadEntry {
    /// The entry's path.
    pub path: Vec<u8>,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Shape {
    /// How the source that a path names lands: its content if the path ends in `/.`, or has no name because it is the root
    /// or ends in `..`.
    #[must_use]
    pub fn of_source(path: &[u8]) -> Shape {
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
        match path[..end].rsplit(|byte| *byte == b'/').next() {
            None | Some(b"" | b"." | b"..") => Shape::Contents,
            Some(name) => Shape::Named(name.to_vec()),
        }
    }
}

impl Entry {
    /// Whether the entry is one a receiver may act on: its path stays below the source, its numbers are in range, and
    /// its extents are ordered and inside the file.
    ///
    /// # Errors
    /// [`BadEntry`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), BadEntry> {
        let refuse = |reason| Err(BadEntry { path: self.path.clone(), reason });
        if !is_short(&self.path) {
            return refuse("its path is longer than 4095 bytes or 256 names");
        }
        if !(self.path.is_empty() || is_below(&self.path)) {
            return refuse("its path leaves the source");
        }
        if self.mode > 0o7777 || self.modified.nanos >= 1_000_000_000 {
            return refuse("its mode or time is out of range");
        }
        if self.attributes.iter().any(|attribute| attribute.name.is_empty() || attribute.name.contains(&0)) {
            return refuse("an attribute has no name, or one with a NUL");
        }
        match &self.content {
            Content::Directory => Ok(()),
            Content::File { size, extents } if are_ordered(extents, *size) => Ok(()),
            Content::File { .. } => refuse("its extents are out of order or reach beyond its end"),
            Content::Symlink(target) if is_text(target) => Ok(()),
            Content::Symlink(_) => refuse("its target is empty, too long or has a NUL"),
            Content::HardLink(target) if is_below(target) && !self.path.is_empty() => Ok(()),
            Content::HardLink(_) => refuse("it links to what is not below the source"),
        }
    }
}

/// Bytes of all extents together.
#[must_use]
pub fn data_length(extents: &[Extent]) -> u64 {
    extents.iter().fold(0, |sum, extent| sum.saturating_add(extent.length))
}

/// A path for a message, which need not hold all of one that is refused for its length.
fn shown(path: &[u8]) -> String {
    let (start, more) = path.split_at(path.len().min(SHOWN_PATH));
    format!("{}{}", String::from_utf8_lossy(start), if more.is_empty() { "" } else { "…" })
}

fn is_text(path: &[u8]) -> bool {
    (1..=MAX_PATH).contains(&path.len()) && !path.contains(&0)
}

/// Whether a path is relative and made of names alone.
pub(super) fn is_below(path: &[u8]) -> bool {
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..");
    is_text(path) && is_short(path) && path.split(|byte| *byte == b'/').all(is_name)
}

fn is_short(path: &[u8]) -> bool {
    path.len() <= MAX_PATH && path.split(|byte| *byte == b'/').count() <= MAX_DEPTH
}

fn are_ordered(extents: &[Extent], size: u64) -> bool {
    let mut end = 0;
    extents.len() <= MAX_EXTENTS
        && extents.iter().all(|extent| {
            let starts_behind = extent.offset >= end && extent.length > 0;
            end = extent.offset.saturating_add(extent.length);
            starts_behind && end <= size && end != u64::MAX
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(path: &[u8], content: Content) -> Entry {
        let modified = Timestamp { seconds: 0, nanos: 0 };
        let path = path.to_vec();
        Entry { path, mode: 0o644, uid: 0, gid: 0, modified, attributes: Vec::new(), content }
    }

    fn file(size: u64, extents: &[(u64, u64)]) -> Content {
        let extents = extents.iter().map(|&(offset, length)| Extent { offset, length }).collect();
        Content::File { size, extents }
    }

    #[test]
    fn paths_that_leave_the_source_are_refused() {
        for path in [&b"/etc/passwd"[..], b"..", b"a/../../b", b"a//b", b"a/", b"./a", b"a\0b", &[b'x'; 4096]]
        {
            assert!(entry(path, Content::Directory).check().is_err(), "{path:?}");
            assert!(entry(b"link", Content::HardLink(path.to_vec())).check().is_err(), "{path:?}");
        }
        for path in [&b""[..], b"a", b"a/b", b"...", b"a/..b", b"\xff"] {
            assert_eq!(entry(path, Content::Directory).check(), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn a_symbolic_link_may_point_anywhere_but_has_to_point() {
        assert_eq!(entry(b"a", Content::Symlink(b"../../etc".to_vec())).check(), Ok(()));
        assert!(entry(b"a", Content::Symlink(Vec::new())).check().is_err());
        assert!(entry(b"a", Content::Symlink(b"x\0".to_vec())).check().is_err());
    }

    #[test]
    fn extents_are_ordered_and_end_with_the_file() {
        for (size, extents) in [(0, &[][..]), (9, &[]), (9, &[(0, 9)]), (9, &[(0, 2), (2, 1), (8, 1)])] {
            assert_eq!(entry(b"a", file(size, extents)).check(), Ok(()), "{extents:?}");
        }
        let wrong: [&[(u64, u64)]; 5] =
            [&[(0, 10)], &[(1, 0)], &[(4, 2), (0, 2)], &[(0, 3), (2, 2)], &[(u64::MAX, u64::MAX)]];
        for extents in wrong {
            assert!(entry(b"a", file(9, extents)).check().is_err(), "{extents:?}");
        }
    }

    #[test]
    fn a_source_has_the_last_name_of_its_path_unless_only_its_content_is_meant() {
        for path in [&b"name"[..], b"/a/name", b"a/name//", b"./name"] {
            assert_eq!(Shape::of_source(path), Shape::Named(b"name".to_vec()), "{path:?}");
        }
        for path in [&b"/"[..], b".", b"a/.", b"a/./", b"..", b"a/..", b""] {
            assert_eq!(Shape::of_source(path), Shape::Contents, "{path:?}");
        }
    }

    #[test]
    fn an_error_names_the_entry() {
        let error = entry(b"../x", Content::Directory).check().unwrap_err();
        assert_eq!(error.to_string(), "refused entry ../x: its path leaves the source");
    }

    #[test]
    fn an_error_tells_of_a_long_path_its_beginning_and_the_bounds() {
        let bounds = format!("{MAX_PATH} bytes or {MAX_DEPTH} names");
        for path in [vec!["d"; MAX_DEPTH + 1].join("/"), "d".repeat(MAX_PATH + 1)] {
            let error = entry(path.as_bytes(), Content::Directory).check().unwrap_err();
            let expected =
                format!("refused entry {}…: its path is longer than {bounds}", &path[..SHOWN_PATH]);
            assert_eq!(error.to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn a_path_that_passes_never_leaves_the_source(path in "[./a\u{0}]{0,12}") {
            if entry(path.as_bytes(), Content::Directory).check().is_ok() {
                let plain = std::path::Path::new(&path).components().all(|component| matches!(component, std::path::Component::Normal(_)));
                prop_assert!(plain);
            }
        }
    }
}
