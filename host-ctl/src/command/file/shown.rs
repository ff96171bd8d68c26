//! Metadata as it is shown.

pub(super) use firstlight_host_ctl::agent::file_view::{FileView as Shown, time};
use firstlight_protocol::message::file::{FileKind, Metadata};

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
    use firstlight_protocol::message::file::Timestamp;

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
