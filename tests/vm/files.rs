//! Files into a VM, out of it, and copies that end too early.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use firstlight_tests::lab::finish;
use firstlight_tests::{Lab, Vm, disk};
use rustix::fs::XattrFlags;

/// Only a failing test waits this long for something it looks for again and again.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long a reader stands still.
const STANDSTILL: Duration = Duration::from_secs(30);

/// An attribute that every file system of host and guest takes, from root.
const ATTRIBUTE: &str = "trusted.firstlight";

const MIB: usize = 1 << 20;

/// A tree with one of everything that a copy keeps.
fn make_tree(path: &Path) {
    fs::create_dir_all(path.join("sub/empty")).unwrap();
    fs::write(path.join("sub/file"), "content").unwrap();
    fs::write(path.join("program"), "#!/bin/sh\necho hello\n").unwrap();
    fs::set_permissions(path.join("program"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(path.join("program"), path.join("sub/program")).unwrap();
    symlink("../nowhere", path.join("link")).unwrap();
    let sparse = fs::File::create(path.join("sparse")).unwrap();
    sparse.set_len(64 * MIB as u64).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"island", 32 * MIB as u64).unwrap();
    if is_root() {
        std::os::unix::fs::chown(path.join("sub/file"), Some(1234), Some(0)).unwrap();
        for name in ["program", "sub"] {
            rustix::fs::setxattr(path.join(name), ATTRIBUTE, name.as_bytes(), XattrFlags::empty()).unwrap();
        }
    }
    let time = std::time::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    for name in ["sub/file", "sub/empty", "sub"] {
        fs::File::open(path.join(name)).unwrap().set_modified(time).unwrap();
    }
}

/// Bytes that a process has written. Source: `wchar` of `/proc/PID/io` in `proc(5)`.
#[track_caller]
fn written(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let bytes = io.lines().find_map(|line| line.strip_prefix("wchar: "));
    bytes.unwrap().parse().unwrap()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A line for each file of a tree, with all that a copy keeps. The time of the tree itself is that of its making.
#[track_caller]
fn describe(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = path.symlink_metadata().unwrap();
        let content = if metadata.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "directory".to_owned()
        } else if metadata.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            let bytes = fs::read(&path).unwrap();
            let sum: u64 =
                bytes.iter().fold(0, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            let sparse = metadata.blocks() * 512 < metadata.len() / 2;
            format!("{} bytes, sum {sum}, links {}, sparse {sparse}", bytes.len(), metadata.nlink())
        };
        let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        let time = (metadata.mtime(), metadata.mtime_nsec());
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let mut value = [0; 64];
        let length = rustix::fs::lgetxattr(&path, ATTRIBUTE, &mut value).unwrap_or(0);
        let attribute = String::from_utf8_lossy(&value[..length]);
        lines.push(format!("{name}: {mode:o} {uid}:{gid} {time:?} {attribute:?} {content}"));
    }
    lines.sort();
    lines
}

/// Runs a script in the guest until it prints `expected`.
#[track_caller]
fn wait_for(vm: &Vm<'_>, script: &str, expected: &str) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = vm.exec(&["sh", "-c", script]);
        if found.code() == 0 && found.text() == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{script}: {:?}", found.text());
    }
}

/// `cp - NAME:PATH` that has been given one whole member, `first`, and half of another, `half`.
fn half_a_copy(lab: &Lab, destination: &str) -> Child {
    let mut child = lab.command(&["cp", "-", destination]).stdin(Stdio::piped()).spawn().unwrap();
    let source = lab.path("half");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("first"), "whole").unwrap();
    fs::write(source.join("half"), vec![b'x'; 8 * MIB]).unwrap();
    let tar =
        Command::new("tar").args(["-C", source.to_str().unwrap(), "-cf", "-", "first", "half"]).output();
    let archive = tar.unwrap().stdout;
    child.stdin.as_mut().unwrap().write_all(&archive[..4 * MIB]).unwrap();
    child
}

#[test]
fn a_tree_comes_back_from_a_guest_as_it_went_in() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("tree", &["--", "sleep", "1000"]);
    let source = lab.path("source");
    make_tree(&source);
    let (from, back) = (source.to_str().unwrap(), lab.path("back"));
    let _ = lab.host_ctl(&["cp", from, "tree:/copy"]).ok();
    assert_eq!(
        vm.sh("/copy/program; cat /copy/sub/file; stat -c '%a %h' /copy/program"),
        "hello\ncontent4755 2\n"
    );
    if is_root() {
        assert_eq!(vm.sh("stat -c %u:%g /copy/program /copy/sub/file"), "0:0\n1234:0\n");
    }
    let _ = lab.host_ctl(&["cp", "tree:/copy", back.to_str().unwrap()]).ok();
    assert_eq!(describe(&back), describe(&source));

    // Into a directory that exists: under its own name, or only its content.
    let _ = lab.host_ctl(&["file", "mkdir", "tree:/there"]).ok();
    let _ = lab.host_ctl(&["cp", from, "tree:/there"]).ok();
    let _ = lab.host_ctl(&["cp", &format!("{from}/sub/."), "tree:/there"]).ok();
    assert_eq!(vm.sh("ls /there"), "empty\nfile\nprogram\nsource\n");

    // Through archives, with the tar of this machine at the other end.
    let out = lab.host_ctl(&["cp", "tree:/copy", "-"]).ok();
    let extracted = lab.path("extracted");
    fs::create_dir(&extracted).unwrap();
    let mut tar = Command::new("tar")
        .args(["--numeric-owner", "--xattrs", "--xattrs-include=*"])
        .args(["-C", extracted.to_str().unwrap(), "-xpf", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(&out.stdout).unwrap();
    assert!(tar.wait().unwrap().success());
    assert_eq!(describe(&extracted.join("copy")), describe(&source));
}

#[test]
fn a_gibibyte_goes_in_and_comes_back_unchanged() {
    let Some(lab) = Lab::open() else { return };
    let image = lab.path("data.img");
    disk::ext4(&image, 1400);
    let volume = format!("{}:/data", image.display());
    let vm = lab.start("large", &["--volume", &volume, "--", "sleep", "1000"]);
    let (source, back) = (lab.path("gibibyte"), lab.path("back"));
    let mut file = fs::File::create(&source).unwrap();
    let block: Vec<u8> =
        (0..1_u32 << 20).map(|index| (index.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect();
    for number in 0..1024_u32 {
        file.write_all(&number.to_le_bytes()).unwrap();
        file.write_all(&block[4..]).unwrap();
    }
    drop(file);
    let _ = lab.host_ctl(&["cp", source.to_str().unwrap(), "large:/data/file"]).ok();
    let of_host = Command::new("md5sum").stdin(fs::File::open(&source).unwrap()).output().unwrap();
    assert_eq!(vm.sh("md5sum </data/file"), String::from_utf8(of_host.stdout).unwrap());
    let _ = lab.host_ctl(&["cp", "large:/data/file", back.to_str().unwrap()]).ok();
    let same = Command::new("cmp").args([&source, &back]).status().unwrap();
    assert!(same.success());
}

#[test]
fn a_copy_that_ends_too_early_leaves_nothing_half_written() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("early", &["--", "sleep", "1000"]);
    let _ = vm.sh("mkdir /dir; echo before >/dir/half");

    let mut client = half_a_copy(&lab, "early:/dir");
    wait_for(&vm, "cat /dir/first", "whole");
    client.kill().unwrap();
    client.wait().unwrap();
    assert_eq!(vm.sh("ls -A /dir; cat /dir/half"), "first\nhalf\nbefore\n");

    let _ = vm.sh("rm /dir/first");
    let mut client = half_a_copy(&lab, "early:/dir");
    wait_for(&vm, "cat /dir/first", "whole");
    // The agent is the parent of what it executes; killing it breaks this very exec.
    let agent = vm.sh("awk '/^PPid/ {print $2}' /proc/self/status");
    let _ = vm.exec(&["kill", "-9", agent.trim()]);
    drop(client.stdin.take());
    let ended = finish(client);
    assert_eq!(ended.code(), 5, "{}", ended.stderr);
    vm.wait("agent-ready");
    wait_for(&vm, "ls -A /dir; cat /dir/half", "first\nhalf\nbefore\n");

    // An archive that was cut is an error on the host, and so is an archive that is none.
    let mut client = half_a_copy(&lab, "early:/dir");
    drop(client.stdin.take());
    let ended = finish(client);
    assert_eq!(ended.code(), 1);
    assert!(ended.stderr.contains("cut short"), "{}", ended.stderr);
    assert_eq!(vm.sh("cat /dir/half"), "before\n");
}

#[test]
fn files_are_looked_at_and_renamed_and_errors_name_them() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("names", &["--", "sleep", "1000"]);
    let file = |args: &[&str]| lab.host_ctl(&[&["file"], args].concat());
    let _ = file(&["mkdir", "-p", "-m", "0700", "names:/a/b"]).ok();
    let _ = vm.sh("echo hello >/a/b/file; ln -s /a/b /a/link");
    let stat = file(&["stat", "--json", "names:/a/b/file"]).ok().json();
    assert_eq!((stat["kind"].as_str(), stat["size"].as_u64()), (Some("file"), Some(6)));
    assert_eq!(file(&["stat", "--json", "names:/a/link"]).ok().json()["target"], "/a/b");
    assert_eq!(file(&["stat", "--json", "-L", "names:/a/link"]).ok().json()["mode"], "0700");
    assert_eq!(file(&["ls", "names:/a"]).ok().text(), "b\nlink\n");
    assert_eq!(file(&["ls", "--root", "/a/b", "names:/../.."]).ok().text(), "file\n");
    let _ = file(&["mv", "names:/a/b/file", "/a"]).ok();
    assert_eq!(vm.sh("cat /a/file"), "hello\n");
    let _ = file(&["rm", "-r", "names:/a"]).ok();

    let missing = file(&["stat", "names:/a/b"]);
    assert_eq!(missing.code(), 1);
    assert!(missing.stderr.contains("/a/b: No such file or directory"), "{}", missing.stderr);
    let missing = lab.host_ctl(&["cp", "names:/none", "."]);
    assert_eq!(missing.code(), 1);
    assert!(missing.stderr.contains("/none: No such file or directory"), "{}", missing.stderr);
    let refused = lab.host_ctl(&["cp", "/etc/hostname", "names:/dev/null"]);
    assert!(
        refused.stderr.contains("/dev/null: a pipe, socket or device is not overwritten"),
        "{}",
        refused.stderr
    );
    vm.stop();
    let stopped = lab.host_ctl(&["cp", "/etc/hostname", "names:/tmp/x"]);
    assert_eq!(stopped.code(), 4, "{}", stopped.stderr);
    assert!(stopped.stderr.contains("stopped"), "{}", stopped.stderr);
}

#[test]
fn a_reader_that_stands_still_for_half_a_minute_holds_up_nobody_and_loses_nothing() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("still", &["--memory", "512M", "--", "sleep", "1000"]);
    let _ = vm.sh("head -c 60000000 /dev/urandom >/large");
    let back = lab.path("large");
    let reader = lab.command(&["cp", "still:/large", back.to_str().unwrap()]).spawn().unwrap();
    let signal = |name: &str| {
        let pid = reader.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    // It has begun to write: a copy that stands still while it connects gives up.
    let begun = Instant::now() + DEADLINE;
    while written(reader.id()) < MIB as u64 {
        assert!(Instant::now() < begun, "the copy never began");
    }
    signal("-STOP");
    let stopped = Instant::now();
    while stopped.elapsed() < STANDSTILL {
        assert_eq!(vm.sh("echo here"), "here\n");
    }
    assert!(!back.exists());
    signal("-CONT");
    let _ = finish(reader).ok();
    let md5 = Command::new("md5sum").stdin(fs::File::open(&back).unwrap()).output().unwrap();
    assert_eq!(vm.sh("md5sum </large"), String::from_utf8(md5.stdout).unwrap());
}

#[test]
fn control_stays_quick_while_copies_run() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("busy", &["--memory", "512M", "--", "sleep", "1000"]);
    let _ = vm.sh("head -c 100000000 /dev/zero >/big");
    let copies: Vec<Child> = (0..4)
        .map(|number| {
            let to = lab.path(&format!("big{number}"));
            lab.command(&["cp", "busy:/big", to.to_str().unwrap()]).spawn().unwrap()
        })
        .collect();
    for _ in 0..5 {
        assert_eq!(vm.sh("echo here"), "here\n");
    }
    for copy in copies {
        let _ = finish(copy).ok();
    }
    for number in 0..4 {
        assert_eq!(fs::metadata(lab.path(&format!("big{number}"))).unwrap().len(), 100_000_000);
    }
}
