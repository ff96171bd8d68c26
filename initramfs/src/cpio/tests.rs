use std::io::Write;
use std::process::{Command, Stdio};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::entry::NAME_MAX;
use super::reader::{find, read};
use super::*;

fn names(bytes: &[u8]) -> Vec<String> {
    read(bytes).into_iter().map(|entry| entry.name.to_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn refusal(result: Result<(), Error>) -> EntryError {
    match result {
        Err(Error::Entry { source, .. }) => source,
        other => panic!("expected a refused entry, found {other:?}"),
    }
}

#[test]
fn directories_above_an_entry_come_before_it_and_once() {
    let mut archive = Archive::new();
    archive.file("/a/b/one", 0o644, b"1").unwrap();
    archive.file("/a/b/two", 0o644, b"2").unwrap();
    assert_eq!(names(&archive.finish()), ["a", "a/b", "a/b/one", "a/b/two"]);
}

#[test]
fn every_kind_of_entry_keeps_its_type_mode_owner_and_device() {
    let mut archive = Archive::new();
    let access = Access { mode: 0o4755, uid: 7, gid: 8 };
    archive.add("/file", access, Kind::File(b"hello")).unwrap();
    archive.symlink("/link", "to/here").unwrap();
    archive.add("/null", Access::root(0o666), Kind::CharDevice { major: 1, minor: 3 }).unwrap();
    archive.add("/vda", Access::root(0o600), Kind::BlockDevice { major: 254, minor: 0x1_2345 }).unwrap();
    archive.add("/fifo", Access::root(0o600), Kind::Fifo).unwrap();
    let entries = read(&archive.finish());

    let file = find(&entries, "/file");
    assert_eq!((file.mode, file.uid, file.gid), (0o104_755, 7, 8));
    assert_eq!(file.contents, b"hello");
    let link = find(&entries, "/link");
    assert_eq!((link.mode, link.contents.as_slice()), (0o120_777, b"to/here".as_slice()));
    let null = find(&entries, "/null");
    assert_eq!((null.mode, null.device), (0o020_666, (1, 3)));
    let disk = find(&entries, "/vda");
    assert_eq!((disk.mode, disk.device), (0o060_600, (254, 0x1_2345)));
    assert_eq!(find(&entries, "/fifo").mode, 0o010_600);
}

#[test]
fn nothing_in_an_archive_looks_like_a_hard_link_or_has_a_time() {
    let mut archive = Archive::new();
    archive.file("/a", 0o644, b"same").unwrap();
    archive.file("/b", 0o644, b"same").unwrap();
    let entries = read(&archive.finish());
    assert!(entries.iter().all(|entry| entry.links == 1 && entry.mtime == 0));
    assert_ne!(entries[0].inode, entries[1].inode);
}

#[test]
fn archives_after_one_another_are_read_as_one() {
    let mut first = Archive::new();
    first.file("/one", 0o644, b"odd").unwrap();
    let mut second = Archive::new();
    second.file("/two", 0o600, b"x").unwrap();
    let bytes = [first.finish(), second.finish()].concat();
    assert_eq!(names(&bytes), ["one", "two"]);
}

#[test]
fn a_path_that_is_taken_is_refused_but_a_directory_may_be_said_twice() {
    let mut archive = Archive::new();
    archive.file("/etc/passwd", 0o644, b"").unwrap();
    archive.directory("/etc", 0o700).unwrap();
    assert_eq!(refusal(archive.file("/etc/passwd", 0o644, b"")), EntryError::Duplicate);
    assert_eq!(refusal(archive.file("/etc", 0o644, b"")), EntryError::Duplicate);
    assert_eq!(refusal(archive.directory("/etc/passwd", 0o755)), EntryError::Duplicate);
    assert_eq!(refusal(archive.file("/etc/passwd/x", 0o755, b"")), EntryError::Duplicate);
}

#[test]
fn a_name_the_kernel_would_skip_in_silence_is_refused() {
    let mut archive = Archive::new();
    let component = "x".repeat(NAME_MAX + 1);
    assert!(matches!(
        refusal(archive.file(format!("/{component}"), 0o644, b"")),
        EntryError::NameTooLong { bytes: 256, limit: NAME_MAX }
    ));
    let deep = "/longish-name".repeat(400);
    assert!(matches!(refusal(archive.directory(&deep, 0o755)), EntryError::NameTooLong { .. }));
    assert!(matches!(refusal(archive.symlink("/link", &deep)), EntryError::NameTooLong { .. }));
    assert_eq!(names(&archive.finish()), Vec::<String>::new());
}

#[test]
fn paths_that_are_no_place_in_the_guest_are_refused() {
    let mut archive = Archive::new();
    for path in ["relative", "/", "", "/a/../b", ".."] {
        assert_eq!(refusal(archive.file(path, 0o644, b"")), EntryError::Path, "{path:?}");
    }
    assert_eq!(refusal(archive.file("/nul\0byte", 0o644, b"")), EntryError::Nul);
    assert_eq!(refusal(archive.symlink("/link", "nul\0byte")), EntryError::Nul);
}

#[test]
fn an_error_names_the_path_and_the_reason() {
    let error = Archive::new().file("/a/../b", 0o644, b"").unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot put /a/../b into an initramfs: the path has to be absolute, without `..`, and below `/`"
    );
}

/// busybox's reader is not ours: what it lists, somebody else understands.
#[test]
fn another_reader_lists_the_same_names() {
    let mut archive = Archive::new();
    archive.file("/a/file", 0o644, b"12345").unwrap();
    archive.symlink("/a/link", "file").unwrap();
    let mut child = Command::new("busybox")
        .args(["cpio", "-t"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("busybox is needed; `make setup` installs it");
    child.stdin.take().unwrap().write_all(&archive.finish()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "a\na/file\na/link\n");
}

proptest! {
    #[test]
    fn whatever_is_written_is_read_back(
        files in btree_map("[a-z]{1,8}(/[a-zA-Z0-9._-]{1,20}x){0,3}", vec(any::<u8>(), 0..40), 0..12),
    ) {
        let mut archive = Archive::new();
        let mut written = Vec::new();
        for (name, contents) in &files {
            // A name may be the directory of a later one; the archive then refuses one of the two.
            if archive.file(format!("/{name}"), 0o640, contents).is_ok() {
                written.push((PathBuf::from(name), contents.clone()));
            }
        }
        let bytes = archive.finish();
        prop_assert_eq!(bytes.len() % BLOCK, 0);
        let mut found: Vec<_> = read(&bytes)
            .into_iter()
            .filter(|entry| entry.mode == 0o100_640)
            .map(|entry| (entry.name, entry.contents))
            .collect();
        found.sort();
        written.sort();
        prop_assert_eq!(found, written);
    }
}
