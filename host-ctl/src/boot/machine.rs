//! What the VMM is given: a VM's spec as a machine.

use std::path::{Path, PathBuf};

use firstlight_protocol::boot_spec::{FileSystem, Transport, VolumeMode};
use firstlight_protocol::headers;
use firstlight_protocol::units::CREDENTIAL;

use super::guest::{ROOT_SERIAL, UPPER_SERIAL, USER_MAC, volume_serial};
use super::{Host, Secrets};
use crate::driver::accel::{self, Accelerator, NoKvm};
use crate::driver::config::{DiskConfig, MachineConfig, NetworkBackend, NetworkConfig, Origin, VsockConfig};
use crate::snapshot::disks;
use crate::vm::VmSpec;
use crate::vm::spec::{Machine, NetworkSpec, RootSpec, UpperSpec};

/// The serial of the upper layer's disk.
pub const UPPER_DISK: &str = UPPER_SERIAL;

/// The serial of the disk of volume `index`.
#[must_use]
pub fn volume_disk(index: usize) -> String {
    volume_serial(index)
}

/// The initramfs of the running boot, relative to the VM's directory.
pub const INITRAMFS: &str = "boot/initramfs";

/// The kernel's command line: init on the initramfs, a quiet serial console, and a panic that ends the VM at once
/// instead of hanging it. `reboot=t` resets by triple fault, which every machine understands. The tests that the kernel
/// does of its own ciphers at each boot are for certified systems, and took half of it.
const COMMAND_LINE: &str =
    "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t rdinit=/init cryptomgr.notests=1";

/// The part of it that holds for an image that boots by itself, too.
const CONSOLE_AND_PANIC: &str = "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t";

/// The boot spec of the running boot, relative to the VM's directory: what a baked image is given as a credential.
const BOOT_SPEC: &str = "boot/boot.json";

/// The machine of one boot of `vm` on `host`, with a kernel from [`super::kernel::bootable`].
///
/// # Errors
/// [`NoKvm`] when the spec asks for it in vain.
pub fn machine(vm: &VmSpec, kernel: &Path, secrets: &Secrets, host: &Host) -> Result<MachineConfig, NoKvm> {
    let accelerator = accel::choose(vm.accel)?;
    Ok(MachineConfig {
        name: vm.name.clone(),
        origin: Origin::Kernel,
        vmm: vm.assets.vmm.clone(),
        machine: vm.machine,
        accelerator,
        cpus: vm.cpus,
        memory_mib: vm.memory_mib,
        kernel: kernel.to_owned(),
        initramfs: vm.baked.as_ref().map_or_else(|| PathBuf::from(INITRAMFS), |baked| baked.initrd.clone()),
        command_line: command_line(vm, accelerator, host),
        credentials: vm.baked.iter().map(|_| (CREDENTIAL.to_owned(), BOOT_SPEC.into())).collect(),
        disks: disks(vm),
        network: network(&vm.network),
        vsock: match vm.boot.transport {
            Transport::Serial => VsockConfig::Serial,
            Transport::Vsock if host.kernel_vsock => VsockConfig::Kernel { cid: secrets.cid },
            Transport::Vsock => VsockConfig::Backend,
        },
    })
}

fn command_line(vm: &VmSpec, accelerator: Accelerator, host: &Host) -> String {
    let line = match &vm.baked {
        None => COMMAND_LINE.to_owned(),
        Some(baked) => format!("{CONSOLE_AND_PANIC} root=UUID={} rw", baked.root_uuid),
    };
    match (accelerator, host.tsc_khz) {
        // Told to be reliable too: against an emulated timer the kernel would soon find it is not.
        (Accelerator::Tcg, Some(khz)) => format!("{line} tsc_early_khz={khz} tsc=reliable"),
        // KVM tells its guests itself.
        (Accelerator::Tcg, None) | (Accelerator::Kvm, _) => line,
    }
}

/// The kernel module of the bus that a machine's virtio devices are on.
pub(super) fn bus_module(machine: Machine) -> &'static str {
    match machine {
        Machine::Microvm => "virtio_mmio",
        Machine::Q35 => "virtio_pci",
    }
}

/// The disks of `vm`.
#[must_use]
pub fn disks(vm: &VmSpec) -> Vec<DiskConfig> {
    let mut disks = Vec::new();
    let mut add = |image: &PathBuf, serial: String, read_only| {
        disks.push(DiskConfig { image: image.clone(), format: disks::format(image), serial, read_only });
    };
    if let Some(baked) = &vm.baked {
        add(&baked.root, ROOT_SERIAL.into(), false);
    } else if let RootSpec::Image { path, .. } = &vm.root {
        // Writes to the root go to its upper layer, so many VMs can share the image.
        add(path, ROOT_SERIAL.into(), true);
    }
    if let UpperSpec::Disk(path) = &vm.upper {
        add(path, UPPER_SERIAL.into(), false);
    }
    for (index, volume) in vm.volumes.iter().enumerate() {
        let read_only = match volume.mode {
            VolumeMode::Rw => volume.file_system.is_some_and(FileSystem::is_read_only),
            VolumeMode::Ro | VolumeMode::Overlay => true,
        };
        if volume.file_system.is_some() {
            add(&volume.image, volume_serial(index), read_only);
        }
    }
    if let Some(headers) = &vm.headers {
        // A disk and no part of the initramfs: what is read of it can leave the guest's memory again.
        add(&headers.bundle, headers::SERIAL.into(), true);
    }
    disks
}

fn network(network: &NetworkSpec) -> Option<NetworkConfig> {
    match network {
        NetworkSpec::None => None,
        NetworkSpec::User => Some(NetworkConfig { mac: USER_MAC, backend: NetworkBackend::User }),
        NetworkSpec::Copy { mac, .. } => Some(NetworkConfig { mac: *mac, backend: NetworkBackend::User }),
        NetworkSpec::Tap { interface, mac, .. } => {
            Some(NetworkConfig { mac: *mac, backend: NetworkBackend::Tap { interface: interface.clone() } })
        }
    }
}
