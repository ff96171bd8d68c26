//! Directories made alike, both ways.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use firstlight_tests::{Finished, Lab, Vm};

/// A source with a directory, files of several sizes and modes, and a link.
fn source(lab: &Lab) -> std::path::PathBuf {
    let source = lab.path("source");
    fs::create_dir_all(source.join("sub/target")).unwrap();
    let large: Vec<u8> = (0..1_u32 << 20).flat_map(u32::to_le_bytes).collect();
    fs::write(source.join("large"), large).unwrap();
    fs::write(source.join("sub/script"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(source.join("sub/script"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(source.join("sub/target/built"), "excluded").unwrap();
    symlink("sub/script", source.join("link")).unwrap();
    source
}

#[track_caller]
fn sync(lab: &Lab, args: &[&str]) -> serde_json::Value {
    let all: Vec<&str> = ["sync", "--json"].into_iter().chain(args.iter().copied()).collect();
    lab.host_ctl(&all).ok().json()
}

/// Every file below a directory of the guest: mode, size, seconds of its time, path.
fn listing(vm: &Vm<'_>, path: &str) -> String {
    vm.sh(&format!("cd {path} && find . -type f -o -type l | sort | xargs stat -c '%a %s %Y %N'"))
}

fn set_time(path: &Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn only_what_differs_crosses_and_both_sides_are_alike_then() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("into", &["--", "sleep", "1000"]);
    let source = source(&lab);
    let from = source.to_str().unwrap();
    let to = "into:/srv/www";
    let _ = vm.sh("mkdir /srv");

    let dry = lab.host_ctl(&["sync", "-n", "--exclude", "target/", from, to]).ok().text();
    assert!(dry.contains("send sub/script\n") && !dry.contains("target"), "{dry}");
    assert_eq!(vm.sh("ls /srv"), "");

    let first = sync(&lab, &["--exclude", "target/", from, to]);
    assert_eq!((&first["files"], &first["total_files"]), (&3.into(), &3.into()));
    assert_eq!(first["bytes"], (4 << 20) + 10);
    let seconds = |name: &str| fs::symlink_metadata(source.join(name)).unwrap().mtime();
    let found = listing(&vm, "/srv/www");
    let large = format!("{} 4194304 {} ./large", mode(&source.join("large")), seconds("large"));
    assert!(found.contains(&large), "no {large:?} in: {found}");
    assert!(found.contains(&format!("750 10 {} ./sub/script", seconds("sub/script"))), "{found}");
    assert!(found.contains("'./link' -> 'sub/script'"), "{found}");
    assert!(!found.contains("built"), "{found}");
    assert_eq!(vm.sh("md5sum < /srv/www/large"), md5(&source.join("large")));

    let second = sync(&lab, &["--exclude", "target/", from, to]);
    assert_eq!((&second["files"], &second["bytes"], &second["adjusted"]), (&0.into(), &0.into(), &0.into()));
    assert_eq!(second["total_files"], 3);

    // A file with another time is sent, one with another mode is not.
    set_time(&source.join("large"), 1_500_000_000);
    fs::set_permissions(source.join("sub/script"), fs::Permissions::from_mode(0o700)).unwrap();
    let checked = sync(&lab, &["--checksum", "--exclude", "target/", from, to]);
    assert_eq!((&checked["files"], &checked["adjusted"]), (&0.into(), &2.into()));
    assert_eq!(vm.sh("stat -c %Y /srv/www/large; stat -c %a /srv/www/sub/script"), "1500000000\n700\n");
}

fn mode(path: &Path) -> String {
    format!("{:o}", fs::metadata(path).unwrap().mode() & 0o777)
}

fn md5(path: &Path) -> String {
    let sum = std::process::Command::new("md5sum").stdin(fs::File::open(path).unwrap()).output().unwrap();
    String::from_utf8(sum.stdout).unwrap()
}

#[test]
fn deleting_spares_what_is_excluded_and_links_lead_nowhere() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("delete", &["--", "sleep", "1000"]);
    let source = source(&lab);
    let from = source.to_str().unwrap();
    let _ = vm.sh(
        "mkdir -p /srv/www/old/deep /srv/www/kept /srv/precious && touch /srv/www/old/deep/file /srv/www/kept/target \
         /srv/precious/file && ln -s /srv/precious /srv/www/sub",
    );
    let kept = sync(&lab, &["--exclude", "target", from, "delete:/srv/www"]);
    assert_eq!(vm.sh("ls /srv/www/old/deep"), "file\n", "{kept}");
    let deleted = sync(&lab, &["--delete", "--exclude", "target", from, "delete:/srv/www"]);
    assert_eq!(deleted["removed"], 3, "{deleted}");
    assert_eq!(
        vm.sh("ls /srv/www; ls /srv/www/kept /srv/precious"),
        "kept\nlarge\nlink\nsub\n/srv/precious:\nfile\n\n/srv/www/kept:\ntarget\n"
    );
    // The link was in the way of a directory; what it pointed to is as it was.
    assert_eq!(vm.sh("test -d /srv/www/sub && test ! -L /srv/www/sub && ls /srv/precious"), "file\n");
}

#[test]
fn the_way_back_is_the_same_way() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("back", &["--", "sleep", "1000"]);
    let to = lab.path("to/back");
    fs::create_dir_all(&to).unwrap();
    fs::write(to.join("extra"), "").unwrap();
    let _ = vm.sh("mkdir -p /srv/www/sub && cd /srv/www && echo one > one && echo two > sub/two && touch -d @1500000000 one");
    let first = sync(&lab, &["--delete", "back:/srv/www", to.to_str().unwrap()]);
    assert_eq!((&first["files"], &first["removed"]), (&2.into(), &1.into()));
    assert_eq!(fs::read_to_string(to.join("sub/two")).unwrap(), "two\n");
    assert_eq!(fs::metadata(to.join("one")).unwrap().mtime(), 1_500_000_000);
    assert!(!to.join("extra").exists());
    let _ = vm.sh("echo three >> /srv/www/sub/two");
    let second = sync(&lab, &["--delete", "back:/srv/www", to.to_str().unwrap()]);
    assert_eq!((&second["files"], &second["total_files"]), (&1.into(), &2.into()));
    assert_eq!(fs::read_to_string(to.join("sub/two")).unwrap(), "two\nthree\n");
    refusals(&lab, &to);
}

#[track_caller]
fn refusals(lab: &Lab, to: &Path) {
    let to = to.to_str().unwrap();
    let refused = |args: &[&str]| -> Finished {
        let all: Vec<&str> = ["sync"].into_iter().chain(args.iter().copied()).collect();
        lab.host_ctl(&all)
    };
    for args in [[to, "back:/"], [to, "back:/srv"], [to, "back:/root"], ["back:/", to]] {
        let run = refused(&args);
        assert_eq!(run.code(), 2, "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains("--force"), "{args:?}: {}", run.stderr);
    }
    let missing = refused(&["back:/srv/none", to]);
    assert_eq!(missing.code(), 1);
    assert!(missing.stderr.contains("/srv/none"), "{}", missing.stderr);
}
