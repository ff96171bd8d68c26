//! VMs booted by QEMU directly, on the command line that host-ctl would give it, with a plugin that notes when init and
//! the program execute their first instruction.
//!
//! No monitor runs beside them: what is measured here is the guest's.

pub mod marks;
pub mod scene;
pub mod tools;

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use firstlight_host_ctl::boot::guest::boot_spec;
use firstlight_host_ctl::boot::machine::machine;
use firstlight_host_ctl::boot::{Host, Secrets, initramfs, tsc};
use firstlight_host_ctl::driver::Driver as _;
use firstlight_host_ctl::driver::config::{SERIAL_FIFO, VHOST_SOCKET, VSOCK_SOCKET};
use firstlight_host_ctl::driver::qemu::Qemu;
use firstlight_host_ctl::vm::VmSpec;
use firstlight_protocol::boot_spec::BootSpec;
use firstlight_protocol::hex::{BootId, Secret};
use firstlight_protocol::port;
use nix::sys::stat::Mode;
use wait_timeout::ChildExt as _;

use marks::{Marks, Moment, at_entry_of, parse};

/// How long a boot may take; counted and on a busy machine it takes ten seconds.
const BOOT_DEADLINE: Duration = Duration::from_secs(120);

/// How long the vsock backend may take to listen, and how often it is looked at.
const BACKEND_DEADLINE: Duration = Duration::from_secs(10);
const BACKEND_LOOK: Duration = Duration::from_millis(2);

/// Guest and host have the same random bytes in every boot, so that no boot has more to do than another.
const SECRETS: [u8; 32] = [0x5a; 32];

/// What a boot is looked at with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// The host's clock; the guest runs as it always does.
    Clock,
    /// A count of the guest's instructions, with guest time derived from them, so that the guest's timers come after the
    /// same instruction each time. Source: "TCG Instruction Counting" in QEMU's manual.
    Instructions,
}

/// Boots VMs.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The plugin.
    pub marks: PathBuf,
    /// The program all VMs run.
    pub program: PathBuf,
    /// The rate of the host's time-stamp counter.
    pub tsc_khz: Option<u64>,
}

impl Bench {
    /// Builds what the boots are looked at with.
    #[must_use]
    pub fn new(tools: &tools::Tools) -> Bench {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.unwrap_or_else(|error| panic!("cannot start a runtime: {error}"));
        let tsc_khz = tsc::Sample::now().and_then(|sample| runtime.block_on(sample.khz()));
        Bench { marks: tools.marks(), program: tools.program(), tsc_khz }
    }

    /// Boots `vm`, whose directory is `dir`, up to the program's first instruction. `amend` may change what init is
    /// told.
    #[must_use]
    pub fn boot(&self, vm: &VmSpec, dir: &Path, look: Look, amend: impl FnOnce(&mut BootSpec)) -> Marks {
        let secrets = secrets();
        let mut spec = boot_spec(vm, &secrets);
        amend(&mut spec);
        let boot = dir.join("boot");
        std::fs::create_dir_all(&boot).unwrap_or_else(|error| panic!("cannot make {}: {error}", boot.display()));
        initramfs::write(vm, &spec, &dir.join(firstlight_host_ctl::boot::machine::INITRAMFS))
            .unwrap_or_else(|error| panic!("{error}"));
        make_console(dir);
        let _backend = Backend::start(vm, dir);
        let mut command = self.command(vm, &secrets, look);
        command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let power_on = now();
        let qemu = Running(command.spawn().unwrap_or_else(|error| panic!("cannot start QEMU: {error}")));
        watch(qemu, power_on).unwrap_or_else(|| panic!("the boot did not reach its program:\n{}", console(dir)))
    }

    fn command(&self, vm: &VmSpec, secrets: &Secrets, look: Look) -> Command {
        // With time made of instructions, the counter has one tick a nanosecond.
        let tsc_khz = match look {
            Look::Clock => self.tsc_khz,
            Look::Instructions => Some(1_000_000),
        };
        let host = Host { kernel_vsock: vm.assets.vsock_backend.is_none(), tsc_khz };
        let mut machine = machine(vm, secrets, &host).unwrap_or_else(|error| panic!("{error}"));
        machine.kernel = firstlight_host_ctl::boot::kernel::bootable(vm).unwrap_or_else(|error| panic!("{error}"));
        if let Ok(a) = std::env::var("APPEND") { machine.command_line = format!("{} {a}", machine.command_line); }
        let mut command = Qemu.command(&machine);
        let mut plugin = format!("file={}", self.marks.display());
        for mark in [at_entry_of("init", &vm.assets.guest_init), at_entry_of("program", &self.program)] {
            plugin = format!("{plugin},{mark}");
        }
        if look == Look::Instructions {
            command.args(["-icount", &std::env::var("ICOUNT").unwrap_or("shift=0,sleep=off".into())]);
            plugin.push_str(",count=on");
        }
        command.args(["-plugin", &plugin]);
        if let Ok(e) = std::env::var("EXTRA") { command.args(e.split_whitespace()); }
        command
    }
}

fn secrets() -> Secrets {
    let [a, b, c, d, ..] = SECRETS;
    Secrets { boot_id: BootId([a, b, c, d]), mac_key: Secret(SECRETS), token: Secret(SECRETS), cid: 0x5a5a }
}

/// The token of every boot, for an agent that the floor starts.
#[must_use]
pub fn token() -> Secret {
    Secret(SECRETS)
}

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads marks until the program's; `None` when QEMU ends or the deadline passes before.
fn watch(mut qemu: Running, power_on: u64) -> Option<Marks> {
    let stdout = qemu.0.stdout.take()?;
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let deadline = Instant::now() + BOOT_DEADLINE;
    let mut init: Option<Moment> = None;
    let marks = loop {
        let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) else { break None };
        match parse(&line) {
            // Later programs of the C library's, such as the agent, begin with the same instructions.
            Some(("init", moment)) => _ = init.get_or_insert(moment),
            Some(("program", program)) => break init.map(|init| Marks { power_on, init, program }),
            Some(_) | None => {}
        }
    };
    drop(qemu);
    let _ = reader.join();
    marks
}

/// The vsock backend of one VM, and a host that listens to its events.
struct Backend {
    _process: Running,
    listener: UnixListener,
}

impl Backend {
    /// `None` on hosts whose kernel does it; init then finds nobody who listens, and goes on.
    fn start(vm: &VmSpec, dir: &Path) -> Option<Backend> {
        let program = vm.assets.vsock_backend.as_ref()?;
        let listener = UnixListener::bind(dir.join(format!("{VSOCK_SOCKET}_{}", port::EVENTS)));
        let listener = listener.unwrap_or_else(|error| panic!("cannot listen for events: {error}"));
        let mut command = Command::new(program);
        command.args(["--guest-cid", "3", "--socket", VHOST_SOCKET, "--uds-path", VSOCK_SOCKET]);
        command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
        let mut process = Running(child);
        let deadline = Instant::now() + BACKEND_DEADLINE;
        while !dir.join(VHOST_SOCKET).exists() {
            let ended = process.0.wait_timeout(BACKEND_LOOK).is_ok_and(|status| status.is_some());
            assert!(!ended && Instant::now() < deadline, "{} does not listen", program.display());
        }
        let accepting = listener.try_clone().unwrap_or_else(|error| panic!("cannot clone a socket: {error}"));
        std::thread::spawn(move || {
            while let Ok((mut events, _)) = accepting.accept() {
                let _ = std::io::copy(&mut events, &mut std::io::sink());
            }
        });
        Some(Backend { _process: process, listener })
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // Wakes the thread that accepts, which then finds the socket shut.
        let _ = nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&self.listener),
            nix::sys::socket::Shutdown::Both,
        );
    }
}

/// The two FIFOs QEMU has for a serial console. It opens both ends of each, so nothing ever waits for a reader.
fn make_console(dir: &Path) {
    for end in ["in", "out"] {
        let fifo = dir.join(format!("{SERIAL_FIFO}.{end}"));
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR)
            .unwrap_or_else(|errno| panic!("cannot make {}: {errno}", fifo.display()));
    }
}

/// What the guest said on its console, as far as the FIFO still has it: nothing once QEMU is gone.
fn console(dir: &Path) -> String {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut text = Vec::new();
    let fifo = std::fs::File::options()
        .read(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(dir.join(format!("{SERIAL_FIFO}.out")));
    if let Ok(mut fifo) = fifo {
        let _ = fifo.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The host's monotonic clock in ns, which the plugin uses too.
fn now() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
