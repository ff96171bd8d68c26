use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;

use super::*;
use crate::cpio::reader::{find, read};

fn pack(source: &Path) -> Vec<u8> {
    let mut archive = Archive::new();
    add(&mut archive, source, Path::new("/root")).unwrap();
    archive.finish()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Makes the same tree with its entries created in the order given.
fn tree(order: &[&str]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in order {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, name).unwrap();
    }
    directory
}

#[test]
fn the_order_in_which_files_were_made_does_not_show() {
    let one = tree(&["a", "b/c", "b/d", "e"]);
    let other = tree(&["e", "b/d", "b/c", "a"]);
    assert_eq!(pack(one.path()), pack(other.path()));
}

#[test]
fn modes_links_and_sockets_are_kept() {
    let directory = tree(&["bin/su"]);
    set_mode(&directory.path().join("bin/su"), 0o4711);
    set_mode(&directory.path().join("bin"), 0o1777);
    symlink("/nowhere", directory.path().join("link")).unwrap();
    let _listener = UnixListener::bind(directory.path().join("socket")).unwrap();

    let entries = read(&pack(directory.path()));
    assert_eq!(find(&entries, "/root/bin/su").mode, 0o104_711);
    assert_eq!(find(&entries, "/root/bin").mode, 0o041_777);
    assert_eq!(find(&entries, "/root/link").contents, b"/nowhere");
    assert_eq!(find(&entries, "/root/socket").mode & 0o170_000, 0o140_000);
}

#[test]
fn a_link_out_of_the_tree_is_not_followed() {
    let outside = tree(&["secret"]);
    let directory = tree(&["file"]);
    symlink(outside.path(), directory.path().join("link")).unwrap();
    let entries = read(&pack(directory.path()));
    assert!(!entries.iter().any(|entry| entry.name.ends_with("secret")));
}

#[test]
fn a_device_number_is_split_as_makedev_joins_it() {
    let entries = read(&pack_device("/dev/null"));
    assert_eq!(find(&entries, "/null").device, (1, 3));
}

fn pack_device(path: &str) -> Vec<u8> {
    let mut archive = Archive::new();
    let metadata = fs::metadata(path).unwrap();
    add_entry(&mut archive, Path::new(path), Path::new("/null"), &metadata).unwrap();
    archive.finish()
}

#[test]
fn a_directory_that_is_missing_is_named() {
    let error = add(&mut Archive::new(), Path::new("/no/such/tree"), Path::new("/root")).unwrap_err();
    assert!(error.to_string().starts_with("cannot read /no/such/tree: "), "{error}");
}
