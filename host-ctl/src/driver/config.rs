//! A virtual machine in words every VMM understands. Relative paths are inside the VM's directory.

use std::path::PathBuf;

use firstlight_protocol::boot_spec::Mac;

use super::accel::Accelerator;
use crate::vm::spec::Machine;

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineConfig {
    /// Shown by process listings.
    pub name: String,
    /// What the guest begins with.
    pub origin: Origin,
    /// The command that starts the VMM.
    pub vmm: PathBuf,
    /// The kind of machine.
    pub machine: Machine,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
    /// The kernel's command line.
    pub command_line: String,
    /// systemd credentials, by name, and the files that hold them.
    pub credentials: Vec<(String, PathBuf)>,
    /// Disks, found in the guest by their serials.
    pub disks: Vec<DiskConfig>,
    /// The network interface.
    pub network: Option<NetworkConfig>,
    /// What gives the guest its vsock, or stands in for it.
    pub vsock: VsockConfig,
}

/// What a guest begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The kernel's first instruction.
    Kernel,
    /// The memory of a snapshot. The state of the devices is loaded once the machine is made, and its vsock is plugged in
    /// after that.
    Memory {
        /// A file as long as the guest has memory.
        ram: PathBuf,
        /// What the guest's writes become.
        writes: Writes,
    },
}

/// What a guest's writes to the file that it has as memory become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writes {
    /// They go to the file.
    Shared,
    /// The guest keeps them to itself, and the file stays as it is.
    Private,
}

/// How a disk image is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// As the guest sees it.
    Raw,
    /// What was written over other images, which stay as they are.
    Overlay,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskConfig {
    /// The image.
    pub image: PathBuf,
    /// How it is laid out.
    pub format: DiskFormat,
    /// Its virtio serial.
    pub serial: String,
    /// Whether the guest may only read it. A disk that may be written is one VM's at a time.
    pub read_only: bool,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The guest's hardware address.
    pub mac: Mac,
    /// The host's side of it.
    pub backend: NetworkBackend,
}

/// The host's side of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkBackend {
    /// The VMM's own: out through the host's sockets.
    User,
    /// A tap device of the host that exists.
    Tap {
        /// Its name.
        interface: String,
    },
}

/// What gives a guest its vsock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VsockConfig {
    /// The host's kernel.
    Kernel {
        /// The guest's context id, unique on the host.
        cid: u32,
    },
    /// A vhost-user backend that listens on [`VHOST_SOCKET`].
    Backend,
    /// Nothing. It has two virtio-serial ports instead, behind [`AGENT_PORT_SOCKET`] and [`EVENTS_PORT_SOCKET`].
    Serial,
}

/// Where the VMM listens for who is at the host's end of the agent's port: one at a time.
pub const AGENT_PORT_SOCKET: &str = "boot/agent-port.sock";

/// The same for the port of init's event stream.
pub const EVENTS_PORT_SOCKET: &str = "boot/events-port.sock";

/// Where the vhost-user vsock backend listens for the VMM.
pub const VHOST_SOCKET: &str = "boot/vhost.sock";

/// Where it takes the host's connections to the guest. For the guest's connections to port N it dials this name with
/// `_N` appended.
pub const VSOCK_SOCKET: &str = "boot/vsock";

/// What the serial console's two FIFOs are called before their `.in` and `.out`.
pub const SERIAL_FIFO: &str = "boot/serial";
