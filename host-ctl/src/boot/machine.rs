//! What the VMM is given: a VM's spec as a machine.

use std::path::PathBuf;

use firstlight_protocol::boot_spec::VolumeMode;

use super::Secrets;
use super::guest::{ROOT_SERIAL, UPPER_SERIAL, USER_MAC, volume_serial};
use crate::driver::accel::{self, Accelerator, NoKvm};
use crate::driver::config::{DiskConfig, MachineConfig, NetworkBackend, NetworkConfig, VsockConfig};
use crate::driver::tsc;
use crate::vm::VmSpec;
use crate::vm::spec::{Machine, NetworkSpec, RootSpec, UpperSpec};

/// The initramfs of the running boot, relative to the VM's directory.
pub const INITRAMFS: &str = "boot/initramfs";

/// The kernel's command line: init on the initramfs, a quiet serial console, and a panic that ends the VM at once
/// instead of hanging it. `reboot=t` resets by triple fault, which every machine understands.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=3 panic=-1 reboot=t rdinit=/init";

/// The machine of one boot of `vm`. `kernel_vsock` says whether the host's kernel gives the guest its vsock.
///
/// # Errors
/// [`NoKvm`] when the spec asks for it in vain.
pub fn machine(vm: &VmSpec, secrets: &Secrets, kernel_vsock: bool) -> Result<MachineConfig, NoKvm> {
    let accelerator = accel::choose(vm.accel)?;
    Ok(MachineConfig {
        name: vm.name.clone(),
        vmm: vm.assets.vmm.clone(),
        machine: vm.machine,
        accelerator,
        cpus: vm.cpus,
        memory_mib: vm.memory_mib,
        kernel: vm.assets.kernel.clone(),
        initramfs: PathBuf::from(INITRAMFS),
        command_line: command_line(vm.machine, accelerator),
        disks: disks(vm),
        network: network(&vm.network),
        vsock: if kernel_vsock { VsockConfig::Kernel { cid: secrets.cid } } else { VsockConfig::Backend },
    })
}

/// The kernel's command line on this machine.
fn command_line(machine: Machine, accelerator: Accelerator) -> String {
    let frequency = match (machine, accelerator) {
        (Machine::Microvm, Accelerator::Tcg) => tsc::khz(),
        // KVM tells its guests the frequency, and a q35 has clocks to measure it by.
        (Machine::Microvm | Machine::Q35, Accelerator::Kvm) | (Machine::Q35, Accelerator::Tcg) => None,
    };
    let frequency = frequency.map(|khz| format!(" tsc_early_khz={khz}"));
    format!("{COMMAND_LINE}{}", frequency.unwrap_or_default())
}

/// The kernel module of the bus that a machine's virtio devices are on.
pub(super) fn bus_module(machine: Machine) -> &'static str {
    match machine {
        Machine::Microvm => "virtio_mmio",
        Machine::Q35 => "virtio_pci",
    }
}

fn disks(vm: &VmSpec) -> Vec<DiskConfig> {
    let mut disks = Vec::new();
    let mut add = |image: &PathBuf, serial: String, read_only| {
        disks.push(DiskConfig { image: image.clone(), serial, read_only });
    };
    if let RootSpec::Image { path, .. } = &vm.root {
        // Writes to the root go to its upper layer, so many VMs can share the image.
        add(path, ROOT_SERIAL.into(), true);
    }
    if let UpperSpec::Disk(path) = &vm.upper {
        add(path, UPPER_SERIAL.into(), false);
    }
    for (index, volume) in vm.volumes.iter().enumerate() {
        let read_only = match volume.mode {
            VolumeMode::Rw => volume.file_system.is_some_and(|file_system| file_system.is_read_only()),
            VolumeMode::Ro | VolumeMode::Overlay => true,
        };
        if volume.file_system.is_some() {
            add(&volume.image, volume_serial(index), read_only);
        }
    }
    disks
}

fn network(network: &NetworkSpec) -> Option<NetworkConfig> {
    match network {
        NetworkSpec::None => None,
        NetworkSpec::User => Some(NetworkConfig { mac: USER_MAC, backend: NetworkBackend::User }),
        NetworkSpec::Tap { interface, mac, .. } => {
            Some(NetworkConfig { mac: *mac, backend: NetworkBackend::Tap { interface: interface.clone() } })
        }
    }
}
