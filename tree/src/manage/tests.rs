//! What is done to names, and how it is refused.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use firstlight_protocol::message::file::{
    FileKind, FileListRequest, FileStatRequest, MakeDirRequest, Place, RemoveRequest, RenameRequest,
};
use rustix::io::Errno;
use tempfile::TempDir;

use super::{list, make_dir, remove, rename, stat};
use crate::Error;

/// A root to work in. Its paths begin with a slash, as a guest's do.
struct Guest(TempDir);

impl Guest {
    fn new() -> Guest {
        Guest(tempfile::tempdir().unwrap())
    }

    fn place(&self, path: &str) -> Place {
        Place { root: self.0.path().as_os_str().as_bytes().to_vec(), path: path.into() }
    }

    fn on_host(&self, path: &str) -> std::path::PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn make(&self, path: &str, parents: bool, mode: u32) -> Result<(), Error> {
        make_dir(&MakeDirRequest { place: self.place(path), parents, mode })
    }

    fn remove(&self, path: &str, recursive: bool, ignore_missing: bool) -> Result<(), Error> {
        remove(&RemoveRequest { place: self.place(path), recursive, ignore_missing })
    }

    fn rename(&self, from: &str, to: &str, keep_existing: bool) -> Result<(), Error> {
        rename(&RenameRequest { from: self.place(from), to: to.into(), keep_existing })
    }

    fn kind(&self, path: &str, follow: bool) -> Result<FileKind, Error> {
        Ok(stat(&FileStatRequest { place: self.place(path), follow })?.metadata.kind)
    }
}

#[track_caller]
fn assert_errno(result: Result<(), Error>, errno: Errno) {
    assert_eq!(result.unwrap_err().errno(), Some(errno));
}

#[test]
fn stat_tells_a_link_from_what_it_points_to() {
    let guest = Guest::new();
    fs::write(guest.on_host("file"), "12345").unwrap();
    symlink("/file", guest.on_host("link")).unwrap();
    let link = stat(&FileStatRequest { place: guest.place("/link"), follow: false }).unwrap();
    assert_eq!((link.metadata.kind, link.target.as_deref()), (FileKind::Symlink, Some(&b"/file"[..])));
    let file = stat(&FileStatRequest { place: guest.place("/link"), follow: true }).unwrap();
    assert_eq!((file.metadata.kind, file.metadata.size, file.target), (FileKind::File, 5, None));
    assert_eq!(guest.kind("/", false), Ok(FileKind::Directory));
    assert_errno(guest.kind("/none", false).map(drop), Errno::NOENT);
    assert_errno(guest.kind("/file/", false).map(drop), Errno::NOTDIR);
}

#[test]
fn a_list_has_the_names_in_order_with_what_they_are() {
    let guest = Guest::new();
    fs::create_dir(guest.on_host("dir")).unwrap();
    fs::write(guest.on_host("b"), "").unwrap();
    symlink("nowhere", guest.on_host("a")).unwrap();
    let listed = list(&FileListRequest { place: guest.place("/"), after: None }).unwrap();
    let found: Vec<_> =
        listed.entries.iter().map(|entry| (entry.name.as_slice(), entry.metadata.kind)).collect();
    assert_eq!(
        found,
        [(&b"a"[..], FileKind::Symlink), (b"b", FileKind::File), (b"dir", FileKind::Directory)]
    );
    assert!(!listed.more);
    let rest = list(&FileListRequest { place: guest.place("/"), after: Some(b"b".to_vec()) }).unwrap();
    assert_eq!(rest.entries.len(), 1);
    assert_errno(list(&FileListRequest { place: guest.place("/b"), after: None }).map(drop), Errno::NOTDIR);
}

#[test]
fn directories_are_made_with_their_parents_and_the_mode_asked_for() {
    let guest = Guest::new();
    assert_errno(guest.make("/a/b/c", false, 0o700), Errno::NOENT);
    guest.make("/a/b/c/", true, 0o1777).unwrap();
    let mode = |path: &str| fs::metadata(guest.on_host(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("a"), mode("a/b"), mode("a/b/c")), (0o755, 0o755, 0o1777));
    guest.make("/a/b/c", true, 0o700).unwrap();
    assert_eq!(mode("a/b/c"), 0o1777, "a directory that is there keeps its mode");
    assert_errno(guest.make("/a/b/c", false, 0o700), Errno::EXIST);
    assert_errno(guest.make("/", false, 0o700), Errno::EXIST);
    guest.make("/", true, 0o700).unwrap();
    fs::write(guest.on_host("file"), "").unwrap();
    assert_errno(guest.make("/file", true, 0o700), Errno::NOTDIR);
    assert_errno(guest.make("/file/below", true, 0o700), Errno::NOTDIR);
}

#[test]
fn a_directory_goes_with_its_content_only_when_told() {
    let guest = Guest::new();
    fs::create_dir_all(guest.on_host("dir/sub")).unwrap();
    fs::write(guest.on_host("kept"), "").unwrap();
    symlink("/kept", guest.on_host("dir/sub/link")).unwrap();
    assert_errno(guest.remove("/dir", false, false), Errno::NOTEMPTY);
    guest.remove("/dir", true, false).unwrap();
    assert_errno(guest.remove("/dir", true, false), Errno::NOENT);
    guest.remove("/dir", true, true).unwrap();
    guest.remove("/dir/below/that", true, true).unwrap();
    for root in ["/", "/..", "/.", "/kept/.."] {
        assert!(guest.remove(root, true, true).is_err(), "{root}");
    }
    assert!(guest.on_host("kept").exists());
}

#[test]
fn a_link_is_removed_itself() {
    let guest = Guest::new();
    fs::create_dir(guest.on_host("dir")).unwrap();
    symlink("dir", guest.on_host("link")).unwrap();
    guest.remove("/link", true, false).unwrap();
    assert!(guest.on_host("dir").exists() && !guest.on_host("link").is_symlink());
}

#[test]
fn a_rename_replaces_a_file_unless_told_to_keep_it_and_goes_into_a_directory() {
    let guest = Guest::new();
    for name in ["a", "b"] {
        fs::write(guest.on_host(name), name).unwrap();
    }
    fs::create_dir(guest.on_host("dir")).unwrap();
    assert_errno(guest.rename("/a", "/b", true), Errno::EXIST);
    guest.rename("/a", "/b", false).unwrap();
    assert_eq!(fs::read_to_string(guest.on_host("b")).unwrap(), "a");
    guest.rename("/b", "/dir", true).unwrap();
    assert_eq!(fs::read_to_string(guest.on_host("dir/b")).unwrap(), "a");
    guest.rename("dir/b", "../../c", true).unwrap();
    assert_eq!(fs::read_to_string(guest.on_host("c")).unwrap(), "a");
    assert_errno(guest.rename("/none", "/x", false), Errno::NOENT);
    assert_errno(guest.rename("/c", "/none/", false), Errno::NOTDIR);
    guest.rename("/dir", "/new/", false).unwrap();
    assert!(guest.on_host("new").is_dir());
    assert!(guest.rename("/", "/x", false).is_err());
}

#[test]
fn a_root_that_is_no_directory_is_named() {
    let place = Place { root: b"/no/such/root".to_vec(), path: b"/".to_vec() };
    let error = stat(&FileStatRequest { place, follow: false }).unwrap_err();
    assert_eq!(
        error,
        Error::System { operation: "open", path: Path::new("/no/such/root").into(), errno: Errno::NOENT }
    );
}
