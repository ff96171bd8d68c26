//! Archives that stay where they belong, and files that are no images.

use std::io::Write as _;

use flate2::write::GzEncoder;

use super::archive::{Compression, detect, unpack};
use super::*;

/// A tar archive with one file entry of this very name, which the crate's own writer would refuse.
fn tar_with(name: &[u8], kind: tar::EntryType, link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    if !link.is_empty() {
        header.as_mut_bytes()[157..157 + link.len()].copy_from_slice(link.as_bytes());
    }
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(512 * 3, 0);
    bytes
}

fn unpack_bytes(bytes: &[u8], compression: Compression) -> (tempfile::TempDir, Result<(), ImageError>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("root.tar");
    std::fs::write(&path, bytes).unwrap();
    let result = unpack(&path, compression, &dir.path().join("tree"));
    (dir, result)
}

#[test]
fn entries_that_leave_the_root_are_refused_by_name() {
    for (name, kind, link) in [
        (&b"../evil"[..], tar::EntryType::Regular, ""),
        (b"/etc/evil", tar::EntryType::Regular, ""),
        (b"a/../../evil", tar::EntryType::Directory, ""),
        (b"link", tar::EntryType::Link, "/etc/evil"),
        (b"link", tar::EntryType::Link, "../evil"),
    ] {
        let (_dir, result) = unpack_bytes(&tar_with(name, kind, link), Compression::None);
        let error = result.unwrap_err();
        assert!(matches!(&error, ImageError::Escapes { .. }), "{error}");
        assert!(error.to_string().contains("evil"), "{error}");
    }
}

#[test]
fn a_file_behind_a_symbolic_link_of_the_archive_is_not_written_outside() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let mut link = tar_with(b"door", tar::EntryType::Symlink, outside.to_str().unwrap());
    link.truncate(512);
    let bytes = [link, tar_with(b"door/evil", tar::EntryType::Regular, "")].concat();
    let (_dir, result) = unpack_bytes(&bytes, Compression::None);
    assert!(result.is_err());
    assert!(!outside.join("evil").exists());
}

#[test]
fn a_gzipped_archive_is_recognized_and_unpacked_with_absolute_symbolic_links_as_they_are() {
    let plain = tar_with(b"./bin", tar::EntryType::Symlink, "/usr/bin");
    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let gzip = gzip.finish().unwrap();
    assert_eq!(detect(&plain), Some(Compression::None));
    assert_eq!(detect(&gzip), Some(Compression::Gzip));
    let (dir, result) = unpack_bytes(&gzip, Compression::Gzip);
    result.unwrap();
    assert_eq!(std::fs::read_link(dir.path().join("tree/bin")).unwrap(), Path::new("/usr/bin"));
}

#[test]
fn a_file_that_is_nothing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    std::fs::write(&path, "hello").unwrap();
    let error = file_system(&path).unwrap_err().to_string();
    assert!(error.contains("notes.txt") && error.contains("mkfs.ext4"), "{error}");
}
