//! A copy from one directory to another, and streams that mean harm.

use std::fs::{self, File};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use firstlight_protocol::message::copy::{Attribute, Content, Entry, Extent, Shape, Totals};
use firstlight_protocol::message::file::{Place, Timestamp};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use tempfile::TempDir;

use crate::{Error, Outlet, Reading, Root, Sink, send};

/// A sink on the other end of a stream, without a wire between.
impl Outlet for Sink {
    fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        Sink::entry(self, entry.clone())
    }

    fn extent(&mut self, file: BorrowedFd<'_>, extent: Extent) -> Result<(), Reading> {
        let mut bytes = vec![0; usize::try_from(extent.length).unwrap()];
        let read = rustix::io::pread(file, &mut bytes, extent.offset).map_err(Reading::Failed)?;
        if read < bytes.len() {
            return Err(Reading::Shrunk);
        }
        self.data(&bytes).map_err(|_| Reading::Outlet)
    }
}

fn place(path: &Path) -> Place {
    Place::new(path.as_os_str().as_bytes())
}

fn named(name: &str) -> Shape {
    Shape::Named(name.into())
}

/// Copies as `host-ctl cp` does.
fn copy(from: &Path, to: &Path, shape: Shape) -> Result<Totals, Error> {
    let mut sink = Sink::new(&place(to), shape, true)?;
    let from = place(from);
    send(&Root::open(&from)?, &from.path, false, &mut sink)?;
    sink.finish()
}

fn entry(path: &str, content: Content) -> Entry {
    let modified = Timestamp { seconds: 1_000_000_000, nanos: 123_456_789 };
    let path = path.into();
    Entry { path, mode: 0o700, uid: 0, gid: 0, modified, attributes: Vec::new(), content }
}

fn file(path: &str, size: u64) -> Entry {
    let extents = if size == 0 { Vec::new() } else { vec![Extent { offset: 0, length: size }] };
    entry(path, Content::File { size, extents })
}

fn link(path: &str, target: &str) -> Entry {
    entry(path, Content::Symlink(target.into()))
}

/// A directory to copy into, with one file beside it that no copy may touch.
fn fenced() -> (TempDir, std::path::PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(outer.path().join("beside"), "untouched").unwrap();
    (outer, inner)
}

#[track_caller]
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Feeds a stream whose files are all zeros, and gives the first error.
fn feed(to: &Path, shape: Shape, entries: Vec<Entry>) -> Result<Totals, Error> {
    let mut sink = Sink::new(&place(to), shape, false)?;
    for entry in entries {
        let size = match &entry.content {
            Content::File { size, .. } => usize::try_from(*size).unwrap(),
            Content::Directory | Content::Symlink(_) | Content::HardLink(_) => 0,
        };
        sink.entry(entry)?;
        if size > 0 {
            sink.data(&vec![0; size])?;
        }
    }
    sink.finish()
}

#[test]
fn a_tree_arrives_with_all_that_it_is() {
    let (outer, inner) = fenced();
    let source = outer.path().join("source");
    fs::create_dir_all(source.join("sub/deep")).unwrap();
    fs::write(source.join("sub/file"), "content").unwrap();
    fs::hard_link(source.join("sub/file"), source.join("sub/deep/again")).unwrap();
    symlink("../nowhere", source.join("link")).unwrap();
    let sparse = File::create(source.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all_at(b"middle", 4 << 20).unwrap();
    fs::write(source.join("closed"), "x").unwrap();
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o4750)).unwrap();
    fs::set_permissions(source.join("sub/deep"), fs::Permissions::from_mode(0o555)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567_890, 987_654_321);
    for path in ["sub/file", "sub/deep", "sub"] {
        File::open(source.join(path)).unwrap().set_modified(time).unwrap();
    }

    let totals = copy(&source, &inner, named("copy")).unwrap();
    let copy = inner.join("copy");
    assert_eq!(totals.entries, 8);
    assert_eq!(fs::read_to_string(copy.join("sub/file")).unwrap(), "content");
    assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new("../nowhere"));
    for path in ["", "sub", "sub/deep", "sub/file", "closed", "sparse"] {
        let (from, to) = (source.join(path).metadata().unwrap(), copy.join(path).metadata().unwrap());
        let all = |file: &fs::Metadata| {
            let size = if file.is_dir() { 0 } else { file.len() };
            (file.mode(), file.uid(), file.gid(), size, file.mtime(), file.mtime_nsec())
        };
        assert_eq!(all(&to), all(&from), "{path}");
    }
    let inode = |path: &str| copy.join(path).metadata().unwrap().ino();
    assert_eq!(inode("sub/file"), inode("sub/deep/again"));
    assert!(copy.join("sparse").metadata().unwrap().blocks() * 512 < 1 << 20);
    let mut middle = [0; 6];
    File::open(copy.join("sparse")).unwrap().read_exact_at(&mut middle, 4 << 20).unwrap();
    assert_eq!(&middle, b"middle");
    // A directory without the right to write cannot be emptied by others than root.
    for path in [source.join("sub/deep"), copy.join("sub/deep")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn attributes_are_copied_with_files_and_directories() {
    let (outer, inner) = fenced();
    let source = outer.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    let names = ["", "file"];
    for name in names {
        match rustix::fs::setxattr(source.join(name), "user.kept", name.as_bytes(), XattrFlags::empty()) {
            Ok(()) => {}
            // The test's own file system has no such attributes.
            Err(Errno::NOTSUP) => return,
            Err(errno) => panic!("{errno}"),
        }
    }
    let totals = copy(&source, &inner, named("copy")).unwrap();
    assert_eq!(totals.lost_attributes, 0);
    for name in names {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(inner.join("copy").join(name), "user.kept", &mut value);
        assert_eq!(length.map(|length| &value[..length]), Ok(name.as_bytes()), "{name}");
    }
}

#[test]
fn attributes_arrive_or_are_counted_as_lost() {
    let (_outer, inner) = fenced();
    let mut with_attributes = file("", 1);
    let attribute = |name: &str| Attribute { name: name.into(), value: b"value".to_vec() };
    with_attributes.attributes = vec![attribute("user.kept"), attribute("nonsense.name")];
    let totals = feed(&inner, named("file"), vec![with_attributes]).unwrap();
    let mut value = [0; 16];
    match rustix::fs::getxattr(inner.join("file"), "user.kept", &mut value) {
        Ok(length) => assert_eq!((&value[..length], totals.lost_attributes), (&b"value"[..], 1)),
        // The test's own file system has no such attributes.
        Err(Errno::NODATA | Errno::NOTSUP) => assert_eq!(totals.lost_attributes, 2),
        Err(errno) => panic!("{errno}"),
    }
}

#[test]
fn content_goes_into_what_is_there_and_leaves_the_rest_alone() {
    let (outer, inner) = fenced();
    let source = outer.path().join("source");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("sub/new"), "new").unwrap();
    fs::create_dir(inner.join("sub")).unwrap();
    fs::write(inner.join("sub/old"), "old").unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o751)).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o700)).unwrap();
    copy(&source, &inner, Shape::Contents).unwrap();
    assert_eq!(names(&inner.join("sub")), ["new", "old"]);
    assert_eq!(inner.metadata().unwrap().mode() & 0o7777, 0o751);
}

#[test]
fn a_file_replaces_a_file_and_keeps_the_link_to_it() {
    let (outer, inner) = fenced();
    fs::write(inner.join("target"), "before").unwrap();
    symlink("target", inner.join("link")).unwrap();
    copy(&outer.path().join("beside"), &inner.join("link"), named("beside")).unwrap();
    assert_eq!(fs::read_to_string(inner.join("target")).unwrap(), "untouched");
    assert!(inner.join("link").is_symlink());
    assert_eq!(names(&inner), ["link", "target"]);
}

#[test]
fn a_copy_that_stops_leaves_nothing() {
    let (_outer, inner) = fenced();
    fs::write(inner.join("old"), "before").unwrap();
    let half = |shape: Shape, to: &Path, entries: Vec<Entry>| {
        let mut sink = Sink::new(&place(to), shape, false).unwrap();
        for entry in entries {
            sink.entry(entry).unwrap();
        }
        sink.data(b"half").unwrap();
        sink
    };
    drop(half(named("x"), &inner.join("old"), vec![file("", 8)]));
    drop(half(named("x"), &inner.join("new"), vec![file("", 8)]));
    let directory = || entry("", Content::Directory);
    drop(half(named("x"), &inner.join("tree"), vec![directory(), file("done", 0), file("half", 8)]));
    assert_eq!(names(&inner), ["old"]);
    assert_eq!(fs::read_to_string(inner.join("old")).unwrap(), "before");
    let ended = half(Shape::Contents, &inner, vec![directory(), file("half", 8)]).finish();
    assert_eq!(ended, Err(Error::Stream("it ends inside a file")));
    assert_eq!(names(&inner), ["old"]);
}

#[test]
fn nothing_is_written_outside_the_destination() {
    let directory = || entry("", Content::Directory);
    let hostile: Vec<(&str, Vec<Entry>)> = vec![
        ("dots", vec![directory(), file("../beside", 1)]),
        ("absolute", vec![directory(), file("/beside", 1)]),
        ("a link up", vec![directory(), link("up", ".."), file("up/beside", 1)]),
        ("an absolute link", vec![directory(), link("root", "/"), file("root/beside", 1)]),
        ("two links", vec![directory(), link("a", "."), link("a/b", ".."), file("a/b/beside", 1)]),
        (
            "a directory through a link",
            vec![directory(), link("up", ".."), entry("up/new", Content::Directory)],
        ),
        ("a link as a directory", vec![directory(), link("up", ".."), entry("up", Content::Directory)]),
        (
            "a hard link",
            vec![directory(), link("up", ".."), entry("x", Content::HardLink(b"up/beside".to_vec()))],
        ),
        ("a hard link up", vec![directory(), entry("x", Content::HardLink(b"../beside".to_vec()))]),
    ];
    for (what, entries) in hostile {
        for shape in [Shape::Contents, Shape::Archive, named("new")] {
            let (outer, inner) = fenced();
            assert!(feed(&inner, shape, entries.clone()).is_err(), "{what}");
            assert_eq!(fs::read_to_string(outer.path().join("beside")).unwrap(), "untouched", "{what}");
            assert_eq!(names(outer.path()), ["beside", "inner"], "{what}");
        }
    }
}

#[test]
fn a_file_takes_the_place_of_a_link_and_not_of_what_it_points_to() {
    let (outer, inner) = fenced();
    let entries = vec![entry("", Content::Directory), link("x", "../beside"), file("x", 1)];
    feed(&inner, Shape::Archive, entries).unwrap();
    assert!(inner.join("x").symlink_metadata().unwrap().is_file());
    assert_eq!(fs::read_to_string(outer.path().join("beside")).unwrap(), "untouched");
}

#[test]
fn links_that_stay_inside_are_followed_as_the_guest_does() {
    let (_outer, inner) = fenced();
    fs::create_dir_all(inner.join("usr/lib")).unwrap();
    symlink("usr/lib", inner.join("lib")).unwrap();
    let entries = vec![entry("", Content::Directory), entry("lib", Content::Directory), file("lib/new", 3)];
    feed(&inner, Shape::Archive, entries).unwrap();
    assert_eq!(names(&inner.join("usr/lib")), ["new"]);
    assert!(inner.join("lib").is_symlink());
}

#[test]
fn an_archive_need_not_name_its_directories_nor_keep_them_together() {
    let (_outer, inner) = fenced();
    let entries =
        vec![entry("", Content::Directory), file("a/b/one", 1), file("c/two", 1), file("a/b/three", 1)];
    feed(&inner, Shape::Archive, entries).unwrap();
    assert_eq!(names(&inner.join("a/b")), ["one", "three"]);
    assert_eq!(inner.join("a").metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn streams_in_a_wrong_order_are_refused() {
    let directory = || entry("", Content::Directory);
    let wrong: Vec<Vec<Entry>> =
        vec![vec![], vec![file("a", 0)], vec![directory(), directory()], vec![file("", 0), file("below", 0)]];
    for entries in wrong {
        let (_outer, inner) = fenced();
        let fed = feed(&inner.join("new"), named("x"), entries.clone());
        assert!(matches!(fed, Err(Error::Stream(_))), "{entries:?} {fed:?}");
    }
    let (_outer, inner) = fenced();
    let mut sink = Sink::new(&place(&inner), named("x"), false).unwrap();
    sink.entry(file("", 4)).unwrap();
    assert!(matches!(sink.data(b"12345"), Err(Error::Stream(_))));
    for name in ["", ".", "..", "a/b", "a/", "/"] {
        assert!(Sink::new(&place(&inner), named(name), false).is_err(), "{name:?}");
    }
}

#[test]
fn a_source_that_becomes_shorter_is_an_error_that_names_it() {
    struct Cutter<'a>(&'a File);
    impl Outlet for Cutter<'_> {
        fn entry(&mut self, _: &Entry) -> Result<(), Error> {
            self.0.set_len(3).unwrap();
            Ok(())
        }
        fn extent(&mut self, file: BorrowedFd<'_>, extent: Extent) -> Result<(), Reading> {
            let mut bytes = vec![0; usize::try_from(extent.length).unwrap()];
            let read = rustix::io::pread(file, &mut bytes, extent.offset).unwrap();
            if read < bytes.len() { Err(Reading::Shrunk) } else { Ok(()) }
        }
    }
    let source = tempfile::NamedTempFile::new().unwrap();
    source.as_file().set_len(10).unwrap();
    source.as_file().write_all_at(&[1; 10], 0).unwrap();
    let from = place(source.path());
    let sent = send(&Root::open(&from).unwrap(), &from.path, false, &mut Cutter(source.as_file()));
    let said = sent.unwrap_err().to_string();
    assert_eq!(said, format!("copy {}: it became shorter while it was read", source.path().display()));
}

#[test]
fn files_of_proc_are_copied_although_they_say_they_are_empty() {
    let (_outer, inner) = fenced();
    copy(Path::new("/proc/version"), &inner, named("version")).unwrap();
    assert_eq!(fs::read(inner.join("version")).unwrap(), fs::read("/proc/version").unwrap());
}

#[test]
fn what_is_no_file_is_left_out_and_counted() {
    let (outer, inner) = fenced();
    let source = outer.path().join("source");
    fs::create_dir(&source).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
    let totals = copy(&source, &inner, Shape::Contents).unwrap();
    assert_eq!((totals.entries, names(&inner)), (1, vec![]));
    let refused = copy(Path::new("/dev/null"), &inner, named("null")).unwrap_err();
    assert_eq!(refused.to_string(), "copy /dev/null: it is a socket, a pipe or a device");
}
