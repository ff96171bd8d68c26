use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::cpio::reader::{Entry, find, read};

/// A host directory with all that a shared archive is made of.
struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    fn new() -> Host {
        let host = Host { directory: tempfile::tempdir().unwrap() };
        for (name, contents) in [
            ("init", "the init"),
            ("agent", "the agent"),
            ("modules.dep", "b.ko: a.ko\na.ko:\nunused.ko:\n"),
            ("a.ko", "module a"),
            ("b.ko", "module b"),
        ] {
            fs::write(host.path(name), contents).unwrap();
        }
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A program that lists applets as busybox would. `cp` writes it: had this process written it, a child that
    /// another test forks at that moment would hold it open, and running it would fail with ETXTBSY.
    fn fake_busybox(&self, script: &str) -> PathBuf {
        let (draft, path) = (self.path("draft"), self.path("busybox"));
        fs::write(&draft, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Command::new("cp").args([&draft, &path]).status().unwrap().success());
        path
    }

    fn pack(&self, builtin_root: Option<BuiltinRoot<'_>>) -> Result<Vec<u8>, Error> {
        Shared {
            init: &self.path("init"),
            agent: Some(&self.path("agent")),
            modules_dir: self.directory.path(),
            modules: &["b"],
            signatures: Signatures::Keep,
            builtin_root,
        }
        .pack()
    }
}

fn text(entry: &Entry) -> &str {
    std::str::from_utf8(&entry.contents).unwrap()
}

#[test]
fn each_file_is_where_the_guest_looks_for_it() {
    let entries = read(&Host::new().pack(None).unwrap());
    for (path, mode, contents) in [
        ("/init", 0o100_755, "the init"),
        ("/firstlight/agent", 0o100_755, "the agent"),
        ("/firstlight/modules/a.ko", 0o100_644, "module a"),
        ("/firstlight/modules/b.ko", 0o100_644, "module b"),
        ("/firstlight/modules/manifest", 0o100_644, "a:\nb: a\n"),
    ] {
        let entry = find(&entries, path);
        assert_eq!((entry.mode, text(entry)), (mode, contents), "{path}");
    }
    assert!(!entries.iter().any(|entry| entry.name.ends_with("unused.ko")));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert_eq!(Host::new().pack(None).unwrap(), Host::new().pack(None).unwrap());
}

#[test]
fn a_busybox_root_has_a_link_for_each_applet_and_the_usual_paths() {
    let host = Host::new();
    let busybox = host.fake_busybox("printf 'sh\\nbusybox\\nls\\n'");
    let entries = read(&host.pack(Some(BuiltinRoot::Busybox(&busybox))).unwrap());
    assert_eq!(find(&entries, "/firstlight/root/bin/busybox").mode, 0o100_755);
    for path in ["/firstlight/root/bin/sh", "/firstlight/root/bin/ls"] {
        assert_eq!(text(find(&entries, path)), "busybox");
    }
    assert_eq!(text(find(&entries, "/firstlight/root/usr/bin")), "../bin");
    assert_eq!(find(&entries, "/firstlight/root/tmp").mode, 0o041_777);
    assert!(text(find(&entries, "/firstlight/root/etc/passwd")).contains("\nnobody:"));
}

#[test]
fn a_program_that_is_no_busybox_is_refused_by_name() {
    let host = Host::new();
    for script in ["exit 1", "echo a list", "printf 'sh\\n../../init\\n'", "printf '\\377'"] {
        let busybox = host.fake_busybox(script);
        let error = host.pack(Some(BuiltinRoot::Busybox(&busybox))).unwrap_err();
        assert!(matches!(error, Error::Busybox { path, .. } if path == busybox), "{script}");
    }
}

#[test]
fn a_root_can_be_a_directory_of_the_host() {
    let host = Host::new();
    let root = host.path("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("program"), "bytes").unwrap();
    let entries = read(&host.pack(Some(BuiltinRoot::Directory(&root))).unwrap());
    assert_eq!(text(find(&entries, "/firstlight/root/program")), "bytes");
}

#[test]
fn a_missing_program_is_named() {
    let host = Host::new();
    fs::remove_file(host.path("agent")).unwrap();
    let error = host.pack(None).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot read {}: ", host.path("agent").display())), "{error}");
}

fn spec(program: &str) -> BootSpec {
    let json = format!(
        r#"{{"version": 1, "boot_id": "00112233", "mac_key": "{key}",
            "root": {{"source": {{"initramfs": "{ROOT_PATH}"}}}}, "program": {{"argv": {program}}}}}"#,
        key = "0".repeat(64),
    );
    BootSpec::from_json(json.as_bytes()).unwrap()
}

#[test]
fn a_vm_s_secrets_are_for_root_alone_and_init_can_read_them() {
    let spec = spec(r#"["/bin/sh"]"#);
    let entries = read(&vm_segment(&spec).unwrap());
    let document = find(&entries, boot_spec::INITRAMFS_PATH);
    assert_eq!(document.mode, 0o100_600);
    assert_eq!(BootSpec::from_json(&document.contents), Ok(spec));
}

#[test]
fn a_boot_spec_that_init_would_refuse_is_refused_here() {
    let mut spec = spec(r#"["/bin/sh"]"#);
    spec.program.argv.clear();
    assert!(matches!(vm_segment(&spec), Err(Error::BootSpec(_))));
}
