//! Disks and root directories for tests.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Damages the file at `path`: changes one byte in its middle, or changes it back.
#[track_caller]
pub fn flip_middle_byte(path: &Path) {
    let file = fs::File::options().read(true).write(true).open(path).unwrap();
    let (middle, mut byte) = (file.metadata().unwrap().len() / 2, [0]);
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[!byte[0]], middle).unwrap();
}

/// Makes an empty ext4 image of `mib` MiB.
#[track_caller]
pub fn ext4(path: &Path, mib: u64) {
    ext4_from(path, mib, None);
}

/// Makes an ext4 image of `mib` MiB that holds the tree `from`.
#[track_caller]
pub fn ext4_from(path: &Path, mib: u64, from: Option<&Path>) {
    fs::File::create(path).unwrap().set_len(mib << 20).unwrap();
    let mut command = Command::new("mkfs.ext4");
    command.args(["-q", "-F"]);
    if let Some(from) = from {
        command.arg("-d").arg(from);
    }
    assert!(command.arg(path).status().unwrap().success());
}

/// Makes a root directory with nothing in it but a static binary as `/NAME`.
#[track_caller]
#[must_use]
pub fn scratch_root(dir: &Path, name: &str) -> PathBuf {
    let root = dir.join("scratch-root");
    fs::create_dir(&root).unwrap();
    copy_busybox(&root.join(name));
    root
}

/// Makes a root directory with busybox and its applets, and the directories a program expects.
#[track_caller]
#[must_use]
pub fn busybox_root(dir: &Path) -> PathBuf {
    let root = dir.join("busybox-root");
    for directory in ["bin", "etc", "tmp", "mnt", "proc", "sys", "dev", "run"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    copy_busybox(&root.join("bin/busybox"));
    for applet in ["sh", "cat", "echo", "ls", "sleep", "mount", "true", "head", "id", "tar", "touch", "test"]
    {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    root
}

fn copy_busybox(to: &Path) {
    fs::copy("/bin/busybox", to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A real Debian root file system, made once and kept in the cache. Not to be written to.
#[track_caller]
#[must_use]
pub fn debian() -> PathBuf {
    tool("debian-root.sh", &[]).remove(0)
}

/// The same with a compiler.
#[track_caller]
#[must_use]
pub fn debian_with_compiler() -> PathBuf {
    tool("debian-root.sh", &["compiler"]).remove(0)
}

/// A variant of one suite; `tools/debian-root.sh` says which there are.
#[track_caller]
#[must_use]
pub fn debian_variant(variant: &str, suite: &str) -> PathBuf {
    tool("debian-root.sh", &[variant, suite]).remove(0)
}

/// The packages with the headers of the kernel that VMs run.
#[track_caller]
#[must_use]
pub fn headers_packages() -> Vec<PathBuf> {
    tool("headers.sh", &[])
}

/// Runs a script that provides files, and gives their paths.
#[track_caller]
fn tool(name: &str, args: &[&str]) -> Vec<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools").join(name);
    let output = Command::new(script).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(PathBuf::from).collect()
}

/// Whether the ext4 image was unmounted: its journal has nothing to replay.
#[track_caller]
#[must_use]
pub fn is_clean(image: &Path) -> bool {
    let output = Command::new("dumpe2fs").arg("-h").arg(image).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("Filesystem features"), "{output:?}");
    !text.contains("needs_recovery")
}
