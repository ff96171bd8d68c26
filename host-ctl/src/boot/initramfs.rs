//! The initramfs of a boot: an archive that VMs share, and one VM's own after it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use firstlight_initramfs::{BuiltinRoot, Shared, Signatures, vm_segment};
use firstlight_protocol::boot_spec::{BootSpec, FileSystem, Transport, VolumeMode};

use super::cache::{self, CacheError, Fingerprint};
use super::kernel;
use super::machine::bus_module;
use crate::vm::VmSpec;
use crate::vm::spec::{NetworkSpec, RootSpec, UpperSpec};

/// Part of every fingerprint: another number for another way of packing.
const FORMAT: u8 = 2;

/// How many shared archives the cache keeps. Each is a few megabytes; a new one is made for each new build.
const KEPT: usize = 16;

/// An initramfs could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// It could not be packed.
    #[error(transparent)]
    Pack(#[from] firstlight_initramfs::Error),
    /// It could not be kept, or copied for a boot.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The kernel modules a VM needs, by name; the initramfs carries all they depend on too.
#[must_use]
pub fn modules(vm: &VmSpec) -> Vec<&str> {
    let road = match vm.boot.transport {
        Transport::Vsock => "vmw_vsock_virtio_transport",
        Transport::Serial => "virtio_console",
    };
    let mut modules = vec![bus_module(vm.machine), road];
    if needs_overlay(vm) {
        modules.push("overlay");
    }
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

/// The built-in root needs none: it is each boot's own.
fn needs_overlay(vm: &VmSpec) -> bool {
    let root = vm.root != RootSpec::Builtin || vm.upper != UpperSpec::Tmpfs;
    root || vm.volumes.iter().any(|volume| volume.mode == VolumeMode::Overlay)
}

/// The shared archive for `vm`, packed if the cache has none.
///
/// # Errors
/// [`InitramfsError`].
pub fn shared(vm: &VmSpec) -> Result<PathBuf, InitramfsError> {
    let signatures = kernel::signatures(&vm.assets.kernel, &vm.assets.modules);
    let name = format!("{}.cpio", fingerprint(vm, signatures)?);
    let path = vm.assets.cache.join("initramfs").join(name);
    if path.exists() {
        return Ok(path);
    }
    let modules = modules(vm);
    let archive = Shared {
        init: &vm.assets.guest_init,
        agent: (!vm.skip_guest_agent).then_some(&vm.assets.guest_agent),
        modules_dir: &vm.assets.modules,
        modules: &modules,
        signatures,
        builtin_root: vm
            .assets
            .busybox
            .as_deref()
            .filter(|_| vm.root == RootSpec::Builtin)
            .map(BuiltinRoot::Busybox),
    };
    cache::put(&path, &archive.pack()?, KEPT)?;
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

fn fingerprint(vm: &VmSpec, signatures: Signatures) -> Result<String, CacheError> {
    let mut fingerprint = Fingerprint::new(FORMAT);
    let agent = (!vm.skip_guest_agent).then_some(vm.assets.guest_agent.as_path());
    let busybox = vm.assets.busybox.as_deref().filter(|_| vm.root == RootSpec::Builtin);
    for file in [Some(vm.assets.guest_init.as_path()), agent, busybox] {
        fingerprint.file(file)?;
    }
    fingerprint.file(Some(&vm.assets.modules.join("modules.dep")))?;
    fingerprint.word(match signatures {
        Signatures::Keep => "signed",
        Signatures::Strip => "unsigned",
    });
    for module in modules(vm) {
        fingerprint.word(module);
    }
    Ok(fingerprint.finish())
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InitramfsError {
    let failed = cache::failed(operation, path);
    move |source| failed(source).into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

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
        assert_eq!(modules(&vm), ["virtio_mmio", "vmw_vsock_virtio_transport"]);
        vm.boot.transport = Transport::Serial;
        assert_eq!(modules(&vm), ["virtio_console", "virtio_mmio"]);
        vm.boot.transport = Transport::Vsock;
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
