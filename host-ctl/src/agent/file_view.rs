//! What a file is, as it is shown.

use firstlight_protocol::message::file::{FileKind, Metadata, Timestamp};
use serde::Serialize;

use crate::clock::rfc3339;

/// A file in JSON: stable, in the units of [`Metadata`].
#[derive(Debug, Serialize)]
pub struct FileView {
    /// Its path or name, where whoever asked does not know it; bytes that are not UTF-8 are replaced.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    kind: FileKind,
    /// In octal, as `chmod` takes it.
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    allocated: u64,
    modified: String,
    links: u64,
    inode: u64,
    /// Where it points, of a symbolic link that was looked at itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

impl FileView {
    /// The view of the file that is called `name`.
    #[must_use]
    pub fn new(name: &[u8], metadata: &Metadata, target: Option<&[u8]>) -> FileView {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Metadata { kind, mode, uid, gid, size, allocated, modified, links, inode } = metadata;
        FileView {
            name: text(name),
            kind: *kind,
            mode: format!("{mode:04o}"),
            uid: *uid,
            gid: *gid,
            size: *size,
            allocated: *allocated,
            modified: time(*modified),
            links: *links,
            inode: *inode,
            target: target.map(text),
        }
    }
}

/// A time in RFC 3339. One before 1970, which that function does not know, in seconds.
#[must_use]
pub fn time(time: Timestamp) -> String {
    match u64::try_from(time.seconds) {
        Ok(seconds) => rfc3339(seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(time.nanos))),
        Err(_) => format!("@{}.{:09}", time.seconds, time.nanos),
    }
}
