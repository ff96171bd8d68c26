//! What a VM is to be made of, as typed: the flags that every command which makes VMs has in common.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::value::environment::{self, Variable};
use crate::cli::value::filter::{self, Label};
use crate::cli::value::network::{self, Net};
use crate::cli::value::size;
use crate::cli::value::volume::{self, Volume};

/// The flags of a VM, without its name and what the command does with it.
#[derive(Debug, Args)]
pub(crate) struct VmOptions {
    /// Set a variable, or pass yours on: NAME=value or NAME; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = environment::parse)]
    pub(super) env: Vec<Variable>,

    /// Read variables from a file, one a line; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) env_file: Vec<PathBuf>,

    /// The program's working directory
    #[arg(short, long, value_name = "DIR", default_value = "/")]
    pub(super) workdir: String,

    /// Run as this user: user, uid, user:group or uid:gid
    #[arg(short, long)]
    pub(super) user: Option<String>,

    /// A label for ps --label: KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = filter::parse_label)]
    pub(super) label: Vec<Label>,

    /// Virtual CPUs
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    pub(super) cpus: u32,

    /// Memory, such as 512M or 1G
    #[arg(short, long, value_name = "SIZE", default_value = "256M", value_parser = size::parse)]
    pub(super) memory: u64,

    /// user, none, or tap:IF,address=CIDR[,gateway=IP][,dns=IP][,mtu=N][,mac=MAC]
    #[arg(long, default_value = "user", value_parser = network::parse)]
    pub(super) net: Net,

    /// Mount a disk image: SRC:DST[:ro|overlay][:optional]; may be repeated
    #[arg(long, value_name = "VOLUME", value_parser = volume::parse)]
    pub(super) volume: Vec<Volume>,

    /// The root: a directory, a tar archive or an ext4, erofs or squashfs image [default: a built-in busybox]
    #[arg(long, value_name = "PATH")]
    pub(super) rootfs: Option<PathBuf>,

    /// Install kernel headers in the guest, beside the program: a bundle that `headers bundle` made
    #[arg(long, value_name = "BUNDLE")]
    pub(super) headers: Option<PathBuf>,

    /// Until power-off, hide the guest's /lib/modules of other kernels; nothing is deleted
    #[arg(long, requires = "headers")]
    pub(super) headers_mask_others: bool,

    /// The kernel: a bzImage or an ELF image [default: FIRSTLIGHT_KERNEL, or what `make setup` fetched; of a baked image
    /// the newest in it]
    #[arg(long, value_name = "FILE")]
    pub(super) kernel: Option<PathBuf>,

    /// The initrd of a baked image [default: the newest in it]
    #[arg(long, value_name = "FILE")]
    pub(super) initrd: Option<PathBuf>,

    /// The kernel's lib/modules/RELEASE [default: FIRSTLIGHT_MODULES, or what `make setup` fetched]
    #[arg(long, value_name = "DIR")]
    pub(super) modules: Option<PathBuf>,

    /// The emulated machine [default: q35 for a baked image and with --snapshot, else microvm]
    #[arg(long, value_enum)]
    pub(super) machine: Option<Machine>,

    /// Make the VM so that host-ctl snapshot can save it
    #[arg(long, conflicts_with = "skip_guest_agent")]
    pub(super) snapshot: bool,

    /// What runs the guest's instructions
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    pub(super) accel: Accel,

    /// The road to the guest
    #[arg(long, value_enum, default_value_t = Transport::Auto)]
    pub(super) transport: Transport,

    /// Whether init stays PID 1 [default: systemd where the command is an init such as /sbin/init, else exec]
    #[arg(long, value_enum)]
    pub(super) mode: Option<Mode>,

    /// Stages of the boot side by side, or one by one
    #[arg(long, value_enum, default_value_t = Stages::Graph)]
    pub(super) stages: Stages,

    /// Boot without an agent: Running does not wait for it, and exec is refused
    #[arg(long)]
    pub(super) skip_guest_agent: bool,

    /// How large a log may grow before it is rotated
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = size::parse)]
    pub(super) log_max_size: u64,

    /// How many files of each log are kept
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(super) log_max_files: u32,

    /// The program and its arguments; no shell is involved
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(super) argv: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Machine {
    /// The fastest to boot: virtio over MMIO, no PCI
    Microvm,
    /// PCI Express, for what needs it, such as snapshots
    Q35,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Accel {
    /// KVM where it really works, else TCG
    Auto,
    /// The kernel's
    Kvm,
    /// QEMU's emulation
    Tcg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Transport {
    /// Vsock; for a pool on a host whose kernel has none, serial
    Auto,
    /// The kernel's vsock, or a backend where it has none
    Vsock,
    /// Virtio-serial ports: no backend, no shared memory
    Serial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Init supervises the program, and the VM ends with it
    Exec,
    /// Init hands PID 1 over to the image's systemd
    Systemd,
    /// An image that `image bake` has prepared boots by itself
    Baked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Stages {
    /// Each starts the moment what it needs is there
    Graph,
    /// One by one, for debugging and measuring
    Serial,
}
