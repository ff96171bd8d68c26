//! `run [FLAGS] -- CMD ARG...`

pub(super) mod background;
mod end;
mod foreground;
mod notify;
mod resolve;
mod started;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use firstlight_host_ctl::vm::Store;

use crate::cli::resolved::Context;
use crate::cli::value::environment::{self, Variable};
use crate::cli::value::filter::{self, Label};
use crate::cli::value::network::{self, Net};
use crate::cli::value::volume::{self, Volume};
use crate::cli::value::{duration, size};
use crate::interrupt::Interrupts;
use crate::output::{self, Failure};
pub(super) use resolve::{hostname, network as network_of};
pub(super) use started::Unstarted;

/// Boot a VM and run a program in it
///
/// In the foreground the program's output is this command's, and so is its exit code: 128 plus the signal that ended it,
/// 126 if it cannot be invoked, 127 if it is not there, 125 if host-ctl itself failed. The first Ctrl-C is passed on, the
/// second ends the VM. Without a command the VM idles until it is stopped.
#[derive(Debug, Args)]
#[command(after_help = "Example: host-ctl run --rm -- echo hi")]
pub(crate) struct Run {
    /// The VM's name [default: vm- and the beginning of its id]
    #[arg(long)]
    name: Option<String>,

    /// Return as soon as the VM is up, and print its name
    #[arg(short, long)]
    detach: bool,

    /// Remove the VM when it has ended
    #[arg(long)]
    rm: bool,

    /// Set a variable, or pass yours on: NAME=value or NAME; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = environment::parse)]
    env: Vec<Variable>,

    /// Read variables from a file, one a line; may be repeated
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// The program's working directory
    #[arg(short, long, value_name = "DIR", default_value = "/")]
    workdir: String,

    /// Run as this user: user, uid, user:group or uid:gid
    #[arg(short, long)]
    user: Option<String>,

    /// A label for ps --label: KEY=VALUE; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = filter::parse_label)]
    label: Vec<Label>,

    /// Virtual CPUs
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    cpus: u32,

    /// Memory, such as 512M or 1G
    #[arg(short, long, value_name = "SIZE", default_value = "256M", value_parser = size::parse)]
    memory: u64,

    /// user, none, or tap:IF,address=CIDR[,gateway=IP][,dns=IP][,mtu=N][,mac=MAC]
    #[arg(long, default_value = "user", value_parser = network::parse)]
    net: Net,

    /// Mount a disk image: SRC:DST[:ro|overlay][:optional]; may be repeated
    #[arg(long, value_name = "VOLUME", value_parser = volume::parse)]
    volume: Vec<Volume>,

    /// The root: a directory, a tar archive or an ext4, erofs or squashfs image [default: a built-in busybox]
    #[arg(long, value_name = "PATH")]
    rootfs: Option<PathBuf>,

    /// Install kernel headers in the guest, beside the program: a bundle that `headers bundle` made
    #[arg(long, value_name = "BUNDLE")]
    headers: Option<PathBuf>,

    /// Until power-off, hide the guest's /lib/modules of other kernels; nothing is deleted
    #[arg(long, requires = "headers")]
    headers_mask_others: bool,

    /// The kernel: a bzImage or an ELF image [default: FIRSTLIGHT_KERNEL, or what `make setup` fetched]
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,

    /// The kernel's lib/modules/RELEASE [default: FIRSTLIGHT_MODULES, or what `make setup` fetched]
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,

    /// The emulated machine [default: microvm, or q35 with --snapshot]
    #[arg(long, value_enum)]
    machine: Option<Machine>,

    /// Make the VM so that host-ctl snapshot can save it
    #[arg(long, conflicts_with = "skip_guest_agent")]
    snapshot: bool,

    /// What runs the guest's instructions
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    accel: Accel,

    /// Whether init stays PID 1
    #[arg(long, value_enum, default_value_t = Mode::Exec)]
    mode: Mode,

    /// Stages of the boot side by side, or one by one
    #[arg(long, value_enum, default_value_t = Stages::Graph)]
    stages: Stages,

    /// Boot without an agent: Running does not wait for it, and exec is refused
    #[arg(long)]
    skip_guest_agent: bool,

    /// What -d waits for
    #[arg(long, value_enum, default_value_t = Until::Running)]
    wait: Until,

    /// Fail, and end the VM, if that takes longer
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "60s")]
    timeout: Duration,

    /// How large a log may grow before it is rotated
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = size::parse)]
    log_max_size: u64,

    /// How many files of each log are kept
    #[arg(long, value_name = "N", default_value_t = 4)]
    log_max_files: u32,

    /// Print the VM's spec and start nothing
    #[arg(long)]
    dry_run: bool,

    /// The program and its arguments; no shell is involved
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    argv: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Machine {
    /// The fastest to boot: virtio over MMIO, no PCI
    Microvm,
    /// PCI Express, for what needs it, such as snapshots
    Q35,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Accel {
    /// KVM where it really works, else TCG
    Auto,
    /// The kernel's
    Kvm,
    /// QEMU's emulation
    Tcg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Init supervises the program, and the VM ends with it
    Exec,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stages {
    /// Each starts the moment what it needs is there
    Graph,
    /// One by one, for debugging and measuring
    Serial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Until {
    /// The program runs and the agent listens
    Running,
    /// The VMM runs
    Initializing,
    /// Nothing
    None,
}

impl Run {
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let store = Store::open(&context.state_dir)?;
        if self.dry_run {
            let (spec, _draft) = resolve::spec(&self, &store)?;
            output::json(&spec)?;
            return Ok(ExitCode::SUCCESS);
        }
        // From here on a signal ends the VM, and not us before we could.
        let interrupts = Interrupts::listen()?;
        let (spec, draft) = resolve::spec(&self, &store)?;
        let vm = draft.commit(&spec)?;
        let vm = started::Unstarted::new(&store, vm);
        if self.detach {
            background::run(vm, self.wait, self.timeout, interrupts, context).await
        } else {
            foreground::run(vm, self.timeout, self.rm, interrupts, context).await
        }
    }
}
