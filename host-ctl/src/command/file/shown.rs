//! Metadata as it is shown.

use firstlight_host_ctl::clock::rfc3339;
use firstlight_protocol::message::file::{FileKind, Metadata, Timestamp};
use serde::Serialize;

/// A file in JSON: stable, in the units of [`Metadata`].
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    /// Its path or name; bytes that are not UTF-8 are replaced.
    pub(super) name: String,
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

impl Shown {
    pub(super) fn new(name: &[u8], metadata: &Metadata, target: Option<&[u8]>) -> Shown {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let Metadata { kind, mode, uid, gid, size, allocated, modified, links, inode } = metadata;
        Shown {
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
pub(super) fn time(time: Timestamp) -> String {
    match u64::try_from(time.seconds) {
        Ok(seconds) => rfc3339(seconds.saturating_mul(1_000_000_000).saturating_add(u64::from(time.nanos))),
        Err(_) => format!("@{}.{:09}", time.seconds, time.nanos),
    }
}

/// Kind and permissions as `ls -l` shows them.
pub(super) fn mode(metadata: &Metadata) -> String {
    let kind = match metadata.kind {
        FileKind::File => '-',
        FileKind::Directory => 'd',
        FileKind::Symlink => 'l',
        FileKind::Fifo => 'p',
        FileKind::Socket => 's',
        FileKind::CharDevice => 'c',
        FileKind::BlockDevice => 'b',
    };
    let mut text = String::from(kind);
    // Each class with the bit that shows in the place of its x, and how.
    for (shift, special, shown) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = metadata.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (metadata.mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => shown,
            (true, false) => shown.to_ascii_uppercase(),
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(kind: FileKind, mode: u32) -> Metadata {
        let modified = Timestamp { seconds: 1_700_000_000, nanos: 5 };
        Metadata { kind, mode, uid: 0, gid: 5, size: 1, allocated: 4096, modified, links: 1, inode: 7 }
    }

    #[test]
    fn modes_look_as_in_ls() {
        let cases = [
            (FileKind::File, 0o644, "-rw-r--r--"),
            (FileKind::Directory, 0o1777, "drwxrwxrwt"),
            (FileKind::File, 0o4755, "-rwsr-xr-x"),
            (FileKind::File, 0o6644, "-rwSr-Sr--"),
            (FileKind::Directory, 0o1770, "drwxrwx--T"),
            (FileKind::Symlink, 0o777, "lrwxrwxrwx"),
        ];
        for (kind, bits, text) in cases {
            assert_eq!(mode(&metadata(kind, bits)), text);
        }
    }

    #[test]
    fn a_file_in_json_has_every_key() {
        let shown = Shown::new(b"a\xff", &metadata(FileKind::Symlink, 0o777), Some(b"b"));
        insta::assert_snapshot!(
            serde_json::to_string(&shown).unwrap(),
            @r#"{"name":"a�","kind":"symlink","mode":"0777","uid":0,"gid":5,"size":1,"allocated":4096,"modified":"2023-11-14T22:13:20.000000005Z","links":1,"inode":7,"target":"b"}"#
        );
    }

    #[test]
    fn a_time_before_the_epoch_is_shown_in_seconds() {
        assert_eq!(time(Timestamp { seconds: -2, nanos: 500_000_000 }), "@-2.500000000");
    }
}
