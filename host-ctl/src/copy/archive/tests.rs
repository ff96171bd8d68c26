//! Archives from us to others and back, and archives that mean harm.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use firstlight_protocol::codec;
use firstlight_protocol::frame::{HEADER_LEN, Header as FrameHeader};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{Attribute, Content, Entry, Extent, Shape, Totals, data_length};
use firstlight_protocol::message::file::Timestamp;
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;

use super::{ArchiveError, Writer, read};
use crate::copy::push::Frames;

/// Batches of one small archive.
const PLENTY: usize = 1000;

fn entry(path: &str, content: Content) -> Entry {
    let modified = Timestamp { seconds: 1_700_000_000, nanos: 5 };
    let path = path.into();
    Entry { path, mode: 0o4755, uid: 0, gid: 70_000, modified, attributes: Vec::new(), content }
}

fn file(path: &str, size: u64, extents: &[(u64, u64)]) -> Entry {
    let extents = extents.iter().map(|&(offset, length)| Extent { offset, length }).collect();
    entry(path, Content::File { size, extents })
}

/// Collects what is written.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The archive of these entries; files are full of the letter that their path begins with.
fn written(entries: &[Entry]) -> Vec<u8> {
    let archive = Shared::default();
    let mut writer = Writer::new(Box::new(archive.clone()), &Shape::Named(b"source".to_vec()));
    for entry in entries {
        writer.entry(entry).unwrap();
        if let Content::File { extents, .. } = &entry.content {
            let length = usize::try_from(data_length(extents)).unwrap();
            let letter = entry.path.first().copied().unwrap_or(b'x');
            writer.data(&vec![letter; length]).unwrap();
        }
    }
    writer.finish().unwrap();
    archive.0.lock().unwrap().clone()
}

/// What an archive becomes: entries with their bytes.
fn entries_of(archive: Vec<u8>) -> Result<(Vec<(Entry, Vec<u8>)>, Totals), ArchiveError> {
    let (queue, mut batches) = mpsc::channel(PLENTY);
    let mut frames = Frames::new(1, queue);
    let totals = read(Box::new(std::io::Cursor::new(archive)), &mut frames)?;
    frames.flush().unwrap();
    drop(frames);
    let mut bytes = Vec::new();
    while let Some(batch) = batches.blocking_recv() {
        bytes.extend(batch);
    }
    let (mut entries, mut rest): (Vec<(Entry, Vec<u8>)>, &[u8]) = (Vec::new(), &bytes);
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_LEN>() {
        let header = FrameHeader::decode(header).unwrap();
        let (payload, after) = after.split_at(header.length as usize);
        rest = after;
        if header.kind == Kind::CopyEntry {
            entries.push((codec::decode(payload).unwrap(), Vec::new()));
        } else {
            entries.last_mut().unwrap().1.extend(payload);
        }
    }
    Ok((entries, totals))
}

/// An archive by another hand, with one member of this kind.
fn foreign(kind: EntryType, path: &str, link: &str) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    let mut builder = Builder::new(Vec::new());
    builder.append(&header, std::io::empty()).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn what_we_write_comes_back_as_it_was() {
    let long = "n".repeat(200);
    let mut attributed = file("a", 5, &[(0, 5)]);
    attributed.attributes = vec![Attribute { name: b"user.key".to_vec(), value: b"a\nb=\0c".to_vec() }];
    let mut early = entry("e", Content::Symlink(long.clone().into_bytes()));
    early.modified = Timestamp { seconds: -7, nanos: 250_000_000 };
    let entries = [
        entry("", Content::Directory),
        attributed,
        file(&format!("{long}/{long}"), 3000, &[(0, 3000)]),
        file("s", 1 << 40, &[(4096, 512), (1 << 30, 8192)]),
        file("hole", 1 << 20, &[]),
        early,
        entry("h", Content::HardLink(b"a".to_vec())),
        entry("d", Content::Directory),
    ];
    let (found, totals) = entries_of(written(&entries)).unwrap();
    assert_eq!(found.len(), entries.len() + 1);
    for ((found, bytes), mut expected) in found.into_iter().skip(1).zip(entries) {
        let letter = expected.path.first().copied().unwrap_or(b'x');
        let below = |path: &[u8]| match path {
            b"" => b"source".to_vec(),
            path => [b"source/", path].concat(),
        };
        expected.path = below(&expected.path);
        if let Content::HardLink(target) = &mut expected.content {
            *target = below(target);
        }
        assert_eq!(found, expected);
        assert!(bytes.iter().all(|byte| *byte == letter));
    }
    assert_eq!((totals.entries, totals.bytes), (9, 5 + 3000 + 512 + 8192));
}

#[test]
fn a_file_with_many_holes_comes_back_with_all_of_them() {
    let extents: Vec<(u64, u64)> = (0..60).map(|number| (number * 8192, 4096)).collect();
    let sparse = file("x", 60 * 8192, &extents);
    let (found, _) = entries_of(written(std::slice::from_ref(&sparse))).unwrap();
    assert_eq!((&found[1].0.content, found[1].1.len()), (&sparse.content, 60 * 4096));
}

#[test]
fn gnu_tar_lists_what_we_write() {
    let long = "n".repeat(150);
    let extents: Vec<(u64, u64)> = (0..30).map(|number| (number * 8192, 4096)).collect();
    let archive = written(&[
        entry("", Content::Directory),
        file(&long, 3, &[(0, 3)]),
        file("sparse", 1 << 30, &extents),
        entry("link", Content::Symlink(b"../x".to_vec())),
    ]);
    let mut tar = Command::new("tar")
        .args(["--numeric-owner", "--full-time", "--utc", "-tvf", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(&archive).unwrap();
    let output = tar.wait_with_output().unwrap();
    assert!(output.status.success());
    let listed = String::from_utf8(output.stdout).unwrap();
    let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = listed.lines().map(columns).collect();
    let time = "2023-11-14 22:13:20.000000005";
    assert_eq!(
        lines,
        [
            format!("drwsr-xr-x 0/70000 0 {time} source/"),
            format!("-rwsr-xr-x 0/70000 3 {time} source/{long}"),
            format!("-rwsr-xr-x 0/70000 1073741824 {time} source/sparse"),
            format!("lrwsr-xr-x 0/70000 0 {time} source/link -> ../x"),
        ]
    );
}

#[test]
fn members_that_would_leave_the_destination_are_refused_and_others_start_below_it() {
    let file = EntryType::Regular;
    for archive in
        [foreign(file, "../x", ""), foreign(file, "a/../../x", ""), foreign(EntryType::Link, "x", "../y")]
    {
        assert!(matches!(entries_of(archive), Err(ArchiveError::Refused(_))));
    }
    for path in ["/etc/x", "./etc/x", "etc//./x"] {
        let (found, _) = entries_of(foreign(file, path, "")).unwrap();
        assert_eq!(found[1].0.path, b"etc/x");
    }
}

#[test]
fn devices_are_left_out_and_counted() {
    for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo] {
        let (found, totals) = entries_of(foreign(kind, "x", "")).unwrap();
        assert_eq!((found.len(), totals.special), (1, 1));
    }
}

#[test]
fn an_archive_that_is_cut_is_an_error_wherever_it_is_cut() {
    let archive = written(&[file("a", 2000, &[(0, 2000)]), entry("d", Content::Directory)]);
    // Each block, and the middle of each.
    for length in (0..archive.len() - 1024).step_by(256) {
        assert!(entries_of(archive[..length].to_vec()).is_err(), "cut to {length}");
    }
    let garbage = entries_of(vec![b'x'; 4096]).unwrap_err();
    assert!(matches!(garbage, ArchiveError::Damaged(_)), "{garbage}");
}

#[test]
fn a_gzipped_archive_is_read_as_well() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&written(&[file("a", 9, &[(0, 9)])])).unwrap();
    let (found, _) = entries_of(gzip.finish().unwrap()).unwrap();
    assert_eq!(found[1].1, b"aaaaaaaaa");
}

#[test]
fn a_stream_that_contradicts_itself_makes_no_archive() {
    let mut writer = Writer::new(Box::new(std::io::sink()), &Shape::Contents);
    writer.entry(&file("a", 4, &[(0, 4)])).unwrap();
    assert!(matches!(writer.entry(&entry("d", Content::Directory)), Err(ArchiveError::Stream(_))));
    assert!(matches!(writer.data(b"12345"), Err(ArchiveError::Stream(_))));
    assert!(matches!(writer.finish(), Err(ArchiveError::Stream(_))));
}
