//! Which kernel modules a boot wants.
//!
//! Those the initramfs does not carry are taken to be built into the kernel, so a name too many costs nothing here;
//! loading a driver without a device does, which is why the transports of the machine are asked for.

use firstlight_protocol::boot_spec::{
    BootSpec, FileSystem, Root, RootSource, RootUpper, Transport, VolumeMode,
};

/// The ways virtio devices reach this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Transports {
    /// Memory-mapped, as on `microvm` and Firecracker.
    pub(crate) mmio: bool,
    /// PCI, as on `q35`.
    pub(crate) pci: bool,
}

impl Transports {
    /// What to load for `driver` to find its devices. Where no transport shows itself, both are tried.
    fn with(self, driver: &str) -> Vec<&str> {
        let unknown = !self.mmio && !self.pci;
        let mut drivers = Vec::with_capacity(3);
        if self.mmio || unknown {
            drivers.push("virtio_mmio");
        }
        if self.pci || unknown {
            drivers.push("virtio_pci");
        }
        drivers.push(driver);
        drivers
    }
}

/// The modules a boot wants, in chains that do not depend on each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Chains<'a> {
    pub(super) block: Vec<&'a str>,
    pub(super) net: Vec<&'a str>,
    pub(super) vsock: Vec<&'a str>,
    pub(super) extra: Vec<&'a str>,
    /// Of what runs beside the program.
    pub(super) late: Vec<&'a str>,
}

/// The block driver and its transports, for whoever needs a disk before there is a plan.
pub(crate) fn block_driver(transports: Transports) -> Vec<&'static str> {
    transports.with("virtio_blk")
}

pub(super) fn chains(spec: &BootSpec, transports: Transports) -> Chains<'_> {
    let mut chains = Chains::default();
    let file_systems = file_systems(spec);
    if !file_systems.is_empty() {
        chains.block = transports.with("virtio_blk");
    } else if spec.headers.is_some() {
        chains.late = transports.with("virtio_blk");
    }
    for file_system in file_systems {
        chains.block.push(file_system.name());
    }
    if needs_overlay(spec) {
        chains.block.push("overlay");
    }
    if !spec.network.interfaces.is_empty() {
        chains.net = transports.with("virtio_net");
    }
    if spec.agent.is_some() || spec.boot.event_stream {
        chains.vsock = transports.with(match spec.boot.transport {
            Transport::Vsock => "vmw_vsock_virtio_transport",
            Transport::Serial => "virtio_console",
        });
    }
    chains.extra = spec.boot.modules.iter().map(String::as_str).collect();
    chains
}

/// The file systems of all disks, repetitions included; empty when there is no disk.
fn file_systems(spec: &BootSpec) -> Vec<FileSystem> {
    let Root { source, upper } = &spec.root;
    let source = match source {
        RootSource::Disk(disk) => Some(disk.file_system),
        RootSource::Initramfs(_) => None,
    };
    let upper = match upper {
        RootUpper::Disk(disk) => Some(disk.file_system),
        RootUpper::Tmpfs | RootUpper::Direct | RootUpper::ReadOnly => None,
    };
    let volumes = spec.volumes.iter().map(|volume| volume.disk.file_system);
    source.into_iter().chain(upper).chain(volumes).collect()
}

fn needs_overlay(spec: &BootSpec) -> bool {
    let root = match spec.root.upper {
        RootUpper::Tmpfs | RootUpper::Disk(_) => true,
        RootUpper::Direct | RootUpper::ReadOnly => false,
    };
    root || spec.volumes.iter().any(|volume| volume.mode == VolumeMode::Overlay)
}
