//! Files that are missing or not what they should be.

use std::fs;

use super::*;

fn elf(interpreter: bool) -> Vec<u8> {
    let mut file = vec![0; 64 + 56];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    file[18] = 62;
    file[32] = 64;
    file[54] = 56;
    file[56] = 1;
    file[64] = if interpreter { 3 } else { 1 };
    file
}

fn bz_image() -> Vec<u8> {
    let mut file = vec![0; 0x400];
    file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file
}

/// A machine with everything in its place.
fn machine() -> (tempfile::TempDir, Environment) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let write = |path: &str, bytes: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("cache/kernel/current/vmlinuz", &bz_image());
    write("cache/kernel/current/lib/modules/6.1/modules.dep", b"");
    write("cache/tools/bin/vhost-device-vsock", b"");
    write("bin/busybox", &elf(false));
    write("bin/qemu-system-x86_64", b"");
    write("out/guest-init", &elf(false));
    write("out/guest-agent", &elf(false));
    let environment = Environment {
        cache: root.join("cache"),
        path: vec![root.join("bin")],
        executable_dir: Some(root.join("out")),
        ..Environment::default()
    };
    (dir, environment)
}

#[track_caller]
fn refused(wanted: &Wanted, environment: &Environment) -> String {
    find(wanted, environment).unwrap_err().to_string()
}

#[test]
fn everything_is_found_where_setup_and_build_put_it() {
    let (_dir, environment) = machine();
    let found = find(&Wanted { builtin_root: true, ..Wanted::default() }, &environment).unwrap();
    assert!(found.kernel.ends_with("kernel/current/vmlinuz"));
    assert!(found.modules.ends_with("lib/modules/6.1"));
    assert!(found.busybox.is_some());
    assert_eq!(found.guest_init, environment.executable_dir.unwrap().join("guest-init"));
}

#[test]
fn what_is_asked_for_is_never_replaced_by_what_is_found() {
    let (_dir, environment) = machine();
    let wanted = Wanted { kernel: Some("/nowhere/vmlinuz".into()), ..Wanted::default() };
    let error = refused(&wanted, &environment);
    assert!(error.contains("/nowhere/vmlinuz") && error.contains("FIRSTLIGHT_KERNEL"), "{error}");
    let elsewhere = Environment { guest_dir: Some("/nowhere".into()), ..environment };
    let error = refused(&Wanted::default(), &elsewhere);
    assert!(error.contains("/nowhere/guest-init") && error.contains("make build"), "{error}");
}

#[test]
fn a_file_that_is_no_kernel_is_named() {
    let (dir, environment) = machine();
    let text = dir.path().join("notes.txt");
    fs::write(&text, "not a kernel").unwrap();
    let error = refused(&Wanted { kernel: Some(text), ..Wanted::default() }, &environment);
    assert!(error.contains("notes.txt") && error.contains("is no kernel"), "{error}");
}

#[test]
fn a_dynamic_busybox_is_refused_only_where_it_is_needed() {
    let (dir, environment) = machine();
    fs::write(dir.path().join("bin/busybox"), elf(true)).unwrap();
    find(&Wanted::default(), &environment).unwrap();
    let error = refused(&Wanted { builtin_root: true, ..Wanted::default() }, &environment);
    assert!(error.contains("bin/busybox") && error.contains("linked dynamically"), "{error}");
}

#[test]
fn several_kernel_releases_have_to_be_told_apart() {
    let (_dir, environment) = machine();
    let modules = environment.cache.join("kernel/current/lib/modules");
    fs::create_dir(modules.join("6.2")).unwrap();
    fs::write(modules.join("6.2/modules.dep"), "").unwrap();
    let error = refused(&Wanted::default(), &environment);
    assert!(error.contains("several kernel releases"), "{error}");
    let wanted = Wanted { modules: Some(modules.join("6.2")), ..Wanted::default() };
    assert!(find(&wanted, &environment).unwrap().modules.ends_with("6.2"));
}
