//! Images that boot by themselves: Debian's own kernel and an initrd by initramfs-tools, with settings from a credential.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use firstlight_tests::{Lab, disk};

/// A copy of a Debian that can boot by itself. Shared by the tests of this run once it is baked.
#[track_caller]
pub(crate) fn bootable(lab: &Lab) -> PathBuf {
    let image = lab.path("bootable.ext4");
    let original = disk::debian_variant("bootable", "bookworm");
    let copied = Command::new("cp").arg("--sparse=always").arg(original).arg(&image).status().unwrap();
    assert!(copied.success());
    image
}

/// Bakes an image; gives the paths that were written.
#[track_caller]
pub(crate) fn bake(lab: &Lab, image: &Path) -> Vec<String> {
    let baked = lab.host_ctl(&["image", "bake", "--json", image.to_str().unwrap()]).ok().json();
    baked["written"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned()).collect()
}

/// What makes a file another one: its inode and the time of its last change.
fn identity(path: &Path) -> (u64, i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = fs::metadata(path).unwrap();
    (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

#[test]
fn a_baked_debian_boots_its_own_kernel_reports_and_keeps_what_it_writes() {
    let Some(lab) = Lab::open() else { return };
    let image = bootable(&lab);
    let path = image.to_str().unwrap();
    let run = lab.host_ctl(&["run", "--name", "early", "--mode", "baked", "--rootfs", path]);
    assert_eq!(run.code(), 125);
    assert!(run.stderr.contains(&format!("host-ctl image bake {path}")), "{}", run.stderr);

    assert!(bake(&lab, &image).contains(&"/usr/lib/firstlight/guest-agent".to_owned()));
    let baked = identity(&image);
    assert_eq!(bake(&lab, &image), Vec::<String>::new());
    assert_eq!(identity(&image), baked, "the second time changed something");
    let survey = lab.host_ctl(&["image", "inspect", path]).ok().json();
    assert_eq!(survey["modes"], serde_json::json!(["exec", "systemd", "baked"]), "{survey}");

    let args = ["run", "-d", "--name", "baked", "-m", "512M", "--mode", "baked", "--rootfs", path];
    let _ = lab.host_ctl(&[&args[..], &["--wait", "initializing"]].concat()).ok();
    let vm = lab.vm("baked");
    assert_eq!(vm.events(), Vec::<String>::new(), "its kernel cannot have reached systemd yet");
    vm.wait("running");
    let kernels = survey["kernels"].as_array().unwrap();
    assert_eq!(vm.sh("uname -r").trim(), kernels.last().unwrap().as_str().unwrap());
    assert_eq!(vm.events()[..2], ["INIT-START", "PROGRAM-START"]);
    let _ = vm.exec(&["sh", "-c", "echo kept > /root/file"]).ok();
    vm.stop();
    assert_eq!(vm.inspect()["forced"], serde_json::json!([]));
    assert!(vm.events().ends_with(&["EXIT".to_owned(), "POWER-OFF".to_owned()]), "{:?}", vm.events());
    assert_eq!(identity(&image), baked, "the VM wrote to the image and not to its own copy");
    let own = vm.dir().join("root.ext4");
    assert!(disk::is_clean(&own), "POWER-OFF was said with the root still mounted");
    let kept = Command::new("debugfs").args(["-R", "cat /root/file"]).arg(&own).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "kept\n");
}
