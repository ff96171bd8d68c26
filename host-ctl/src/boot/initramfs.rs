//! The initramfs of a boot: an archive that VMs share, and one VM's own after it.
//!
//! Shared archives are kept in the cache under a fingerprint of what they are packed from. A file's device, inode, size
//! and times stand for its contents: the kernel moves a file's change time at every write, and nobody can set it back.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use firstlight_initramfs::{BuiltinRoot, Shared, vm_segment};
use firstlight_protocol::boot_spec::{BootSpec, FileSystem};
use firstlight_protocol::hex;
use sha2::{Digest as _, Sha256};

use super::machine::bus_module;
use crate::vm::VmSpec;
use crate::vm::spec::{NetworkSpec, RootSpec};

/// Part of every fingerprint: another number for another way of packing.
const FORMAT: u8 = 1;

/// How many shared archives the cache keeps. Each is a few megabytes; a new one is made for each new build.
const KEPT: usize = 16;

/// An initramfs could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// It could not be packed.
    #[error(transparent)]
    Pack(#[from] firstlight_initramfs::Error),
    /// A system call failed.
    #[error("cannot {operation} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// The kernel modules a VM needs, by name; the initramfs carries all they depend on too.
#[must_use]
pub fn modules(vm: &VmSpec) -> Vec<&str> {
    let mut modules = vec![bus_module(vm.machine), "vmw_vsock_virtio_transport", "overlay"];
    let root = match &vm.root {
        RootSpec::Builtin => None,
        RootSpec::Image { file_system, .. } => Some(*file_system),
    };
    let file_systems = root.into_iter().chain(vm.volumes.iter().filter_map(|volume| volume.file_system));
    let file_systems: Vec<&str> = file_systems.map(FileSystem::name).collect();
    if !file_systems.is_empty() || vm.headers.is_some() {
        modules.push("virtio_blk");
    }
    modules.extend(file_systems);
    if vm.network != NetworkSpec::None {
        modules.push("virtio_net");
    }
    modules.extend(vm.boot.modules.iter().map(String::as_str));
    modules.sort_unstable();
    modules.dedup();
    modules
}

/// The shared archive for `vm`, packed if the cache has none.
///
/// # Errors
/// [`InitramfsError`].
pub fn shared(vm: &VmSpec) -> Result<PathBuf, InitramfsError> {
    let cache = vm.assets.cache.join("initramfs");
    let path = cache.join(format!("{}.cpio", fingerprint(vm)?));
    if path.exists() {
        return Ok(path);
    }
    let modules = modules(vm);
    let archive = Shared {
        init: &vm.assets.guest_init,
        agent: (!vm.skip_guest_agent).then_some(&vm.assets.guest_agent),
        modules_dir: &vm.assets.modules,
        modules: &modules,
        builtin_root: vm
            .assets
            .busybox
            .as_deref()
            .filter(|_| vm.root == RootSpec::Builtin)
            .map(BuiltinRoot::Busybox),
    };
    let bytes = archive.pack()?;
    fs::create_dir_all(&cache).map_err(failed("make", &cache))?;
    forget_oldest(&cache);
    write_atomically(&path, &bytes)?;
    Ok(path)
}

/// Writes the initramfs of one boot to `path`: readable by its owner alone, because it holds the boot's secrets.
///
/// # Errors
/// [`InitramfsError`].
pub fn write(vm: &VmSpec, boot: &BootSpec, path: &Path) -> Result<(), InitramfsError> {
    let shared = shared(vm)?;
    let segment = vm_segment(boot)?;
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(failed("make", path))?;
    // `copy` lets the kernel do it, without our memory and, where the file system can, without copying at all.
    File::open(&shared)
        .and_then(|mut archive| io::copy(&mut archive, &mut file))
        .map_err(failed("copy the shared initramfs to", path))?;
    file.write_all(&segment).map_err(failed("write", path))
}

fn fingerprint(vm: &VmSpec) -> Result<String, InitramfsError> {
    let mut hash = Sha256::new();
    hash.update([FORMAT]);
    let dependencies = vm.assets.modules.join("modules.dep");
    let agent = (!vm.skip_guest_agent).then_some(&vm.assets.guest_agent);
    let busybox = vm.assets.busybox.as_ref().filter(|_| vm.root == RootSpec::Builtin);
    for file in [Some(&vm.assets.guest_init), agent, busybox, Some(&dependencies)] {
        let Some(file) = file else {
            hash.update([0]);
            continue;
        };
        let metadata = fs::metadata(file).map_err(failed("look at", file))?;
        hash.update([1]);
        for number in [metadata.dev(), metadata.ino(), metadata.size()] {
            hash.update(number.to_le_bytes());
        }
        for number in [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()] {
            hash.update(number.to_le_bytes());
        }
    }
    for module in modules(vm) {
        hash.update(module);
        hash.update([0]);
    }
    Ok(hex::encode(&hash.finalize()))
}

/// Another process may pack the same archive now; whoever is last wins, with the same bytes.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), InitramfsError> {
    let suffix = crate::random::bytes::<4>().map_err(failed("name", path))?;
    let temporary = path.with_extension(format!("{}.part", hex::encode(&suffix)));
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        failed("write", path)(source)
    })
}

/// Makes room in the cache. A boot that is about to use an archive which goes now packs it again.
fn forget_oldest(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    let age = |entry: &fs::DirEntry| entry.metadata().and_then(|metadata| metadata.modified()).ok();
    let mut archives: Vec<_> = entries.flatten().map(|entry| (age(&entry), entry.path())).collect();
    archives.sort();
    let surplus = (archives.len() + 1).saturating_sub(KEPT);
    for (_, path) in archives.iter().take(surplus) {
        let _ = fs::remove_file(path);
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InitramfsError {
    let path = path.to_owned();
    move |source| InitramfsError::Io { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::spec::Machine;
    use crate::vm::spec::tests::spec;

    /// A VM whose files exist.
    fn vm(dir: &Path) -> VmSpec {
        let mut vm = spec("web");
        fs::create_dir_all(dir.join("modules")).unwrap();
        for name in ["modules/modules.dep", "modules/modules.builtin", "guest-init", "guest-agent"] {
            fs::write(dir.join(name), "").unwrap();
        }
        let builtin: String =
            ["virtio_mmio", "vmw_vsock_virtio_transport", "overlay", "virtio_net", "erofs", "virtio_blk"]
                .map(|name| format!("kernel/{name}.ko\n"))
                .concat();
        fs::write(dir.join("modules/modules.builtin"), builtin).unwrap();
        vm.assets.modules = dir.join("modules");
        vm.assets.guest_init = dir.join("guest-init");
        vm.assets.guest_agent = dir.join("guest-agent");
        vm.assets.cache = dir.join("cache");
        vm.root = RootSpec::Image { path: "/r".into(), file_system: FileSystem::Erofs };
        vm
    }

    #[test]
    fn a_vm_carries_the_modules_it_needs_and_no_others() {
        let mut vm = spec("web");
        vm.network = NetworkSpec::None;
        assert_eq!(modules(&vm), ["overlay", "virtio_mmio", "vmw_vsock_virtio_transport"]);
        vm.machine = Machine::Q35;
        vm.root = RootSpec::Image { path: "/r".into(), file_system: FileSystem::Squashfs };
        vm.network = NetworkSpec::User;
        vm.boot.modules = vec!["fuse".into(), "overlay".into()];
        let all = [
            "fuse",
            "overlay",
            "squashfs",
            "virtio_blk",
            "virtio_net",
            "virtio_pci",
            "vmw_vsock_virtio_transport",
        ];
        assert_eq!(modules(&vm), all);
    }

    #[test]
    fn an_archive_is_packed_once_and_again_when_a_file_of_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let vm = vm(dir.path());
        let first = shared(&vm).unwrap();
        let packed = fs::metadata(&first).unwrap().ino();
        assert_eq!(shared(&vm).unwrap(), first);
        assert_eq!(fs::metadata(&first).unwrap().ino(), packed, "packed twice");
        fs::write(&vm.assets.guest_init, "newer").unwrap();
        let second = shared(&vm).unwrap();
        assert_ne!(second, first);
        assert!(fs::read(second).unwrap().windows(5).any(|bytes| bytes == b"newer"));
    }

    #[test]
    fn the_boot_s_own_archive_follows_and_is_nobody_else_s_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let vm = vm(dir.path());
        let boot = super::super::guest::boot_spec(&vm, &super::super::Secrets::random().unwrap());
        let path = dir.path().join("initramfs");
        write(&vm, &boot, &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.starts_with(&fs::read(shared(&vm).unwrap()).unwrap()));
        assert!(bytes.ends_with(&vm_segment(&boot).unwrap()));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn the_cache_keeps_a_bounded_number_of_archives() {
        let dir = tempfile::tempdir().unwrap();
        let vm = vm(dir.path());
        for build in 0..KEPT + 4 {
            fs::write(&vm.assets.guest_init, build.to_string()).unwrap();
            shared(&vm).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path().join("cache/initramfs")).unwrap().count(), KEPT);
    }
}
