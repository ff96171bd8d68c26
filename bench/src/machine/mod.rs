//! VMs booted by QEMU directly, on the command line that host-ctl would give it, with a plugin that notes when init and
//! the program execute their first instruction.
//!
//! No monitor runs beside them: what is measured here is the guest's.

pub(crate) mod marks;
mod processor;
pub(crate) mod scene;
pub(crate) mod tools;

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use firstlight_host_ctl::boot::guest::boot_spec;
use firstlight_host_ctl::boot::machine::{INITRAMFS, machine};
use firstlight_host_ctl::boot::{Host, Secrets, initramfs, kernel, tsc};
use firstlight_host_ctl::driver::Driver as _;
use firstlight_host_ctl::driver::config::{MachineConfig, SERIAL_FIFO, VHOST_SOCKET, VSOCK_SOCKET};
use firstlight_host_ctl::driver::qemu::Qemu;
use firstlight_host_ctl::vm::VmSpec;
use firstlight_initramfs::{BuiltinRoot, Shared, Signatures, vm_segment};
use firstlight_protocol::boot_spec::BootSpec;
use firstlight_protocol::hex::{BootId, Secret};
use firstlight_protocol::port;
use nix::sys::stat::Mode;
use wait_timeout::ChildExt as _;

use marks::{Marks, Moment, at_entry_of, parse};
use processor::OneProcessor;

/// How long a boot may take; counted and on a busy machine it takes ten seconds.
const BOOT_DEADLINE: Duration = Duration::from_secs(120);

/// How long the vsock backend may take to listen, and how often it is looked at.
const BACKEND_DEADLINE: Duration = Duration::from_secs(10);
const BACKEND_LOOK: Duration = Duration::from_millis(2);

/// Guest and host have the same random bytes in every boot, so that no boot has more to do than another.
const SECRETS: [u8; 32] = [0x5a; 32];

/// What a boot is looked at with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// The host's clock; the guest runs as it always does.
    Clock,
    /// The same with QEMU kept on one of the host's processors. Otherwise its threads are moved between them, which has its part
    /// in that one boot takes longer than the next.
    ClockOnOneProcessor,
    /// A count of the guest's instructions, with guest time derived from them, so that the guest's timers come after the
    /// same instruction each time. Source: "TCG Instruction Counting" in QEMU's manual.
    Instructions,
}

/// One boot.
#[derive(Clone, Copy)]
pub(crate) struct Boot<'a> {
    /// The VM.
    pub(crate) vm: &'a VmSpec,
    /// Its directory, with its disks in it.
    pub(crate) dir: &'a Path,
    /// What it is looked at with.
    pub(crate) look: Look,
    /// A root to carry in the initramfs, which then has no kernel modules: for a VM without disks.
    pub(crate) root: Option<&'a Path>,
    /// What init is told otherwise than host-ctl would.
    pub(crate) amend_spec: &'a dyn Fn(&mut BootSpec),
    /// What of the machine is otherwise.
    pub(crate) amend_machine: &'a dyn Fn(&mut MachineConfig),
}

impl<'a> Boot<'a> {
    /// A boot as host-ctl does it.
    #[must_use]
    pub(crate) fn new(vm: &'a VmSpec, dir: &'a Path, look: Look) -> Boot<'a> {
        Boot { vm, dir, look, root: None, amend_spec: &|_| (), amend_machine: &|_| () }
    }
}

/// Boots VMs.
#[derive(Debug, Clone)]
pub(crate) struct Bench {
    /// The plugin.
    pub(crate) marks: PathBuf,
    /// The program all VMs run.
    pub(crate) program: PathBuf,
    /// The rate of the host's time-stamp counter.
    pub(crate) tsc_khz: Option<u64>,
}

impl Bench {
    /// Builds what the boots are looked at with.
    #[must_use]
    pub(crate) fn new(tools: &tools::Tools) -> Bench {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.unwrap_or_else(|error| panic!("cannot start a runtime: {error}"));
        let tsc_khz = tsc::Sample::now().and_then(|sample| runtime.block_on(sample.khz()));
        Bench { marks: tools.marks(), program: tools.program(), tsc_khz }
    }

    /// Boots a VM up to its program's first instruction.
    #[must_use]
    pub(crate) fn boot(&self, boot: &Boot<'_>) -> Marks {
        let Boot { vm, dir, .. } = boot;
        let secrets = secrets();
        let mut spec = boot_spec(vm, &secrets);
        (boot.amend_spec)(&mut spec);
        let files = dir.join("boot");
        std::fs::create_dir_all(&files)
            .unwrap_or_else(|error| panic!("cannot make {}: {error}", files.display()));
        match boot.root {
            None => {
                initramfs::write(vm, &spec, &dir.join(INITRAMFS)).unwrap_or_else(|error| panic!("{error}"));
            }
            Some(root) => write_with_root(vm, &spec, root, &dir.join(INITRAMFS)),
        }
        make_console(dir);
        let _backend = Backend::start(vm, dir);
        let mut command = self.command(boot, &secrets);
        command.current_dir(dir).stdout(Stdio::piped()).stderr(Stdio::piped());
        let kept = (boot.look == Look::ClockOnOneProcessor).then(OneProcessor::keep);
        let power_on = now();
        let qemu = Running(command.spawn().unwrap_or_else(|error| panic!("cannot start QEMU: {error}")));
        drop(kept);
        watch(qemu, power_on).unwrap_or_else(|why| panic!("the boot did not reach its program: {why}"))
    }

    fn command(&self, boot: &Boot<'_>, secrets: &Secrets) -> Command {
        let Boot { vm, look, dir, .. } = boot;
        // With time made of instructions, the counter has one tick a nanosecond.
        let tsc_khz = match look {
            Look::Clock | Look::ClockOnOneProcessor => self.tsc_khz,
            Look::Instructions => Some(1_000_000),
        };
        let host = Host { kernel_vsock: vm.assets.vsock_backend.is_none(), tsc_khz };
        let kernel = kernel::bootable(vm).unwrap_or_else(|error| panic!("{error}"));
        let mut machine = machine(vm, &kernel, secrets, &host).unwrap_or_else(|error| panic!("{error}"));
        (boot.amend_machine)(&mut machine);
        let mut command = Qemu.command(&machine, control_socket(dir));
        let mut plugin = format!("file={}", self.marks.display());
        for mark in [at_entry_of("init", &vm.assets.guest_init), at_entry_of("program", &self.program)] {
            plugin = format!("{plugin},{mark}");
        }
        if *look == Look::Instructions {
            // A guest that waits for a disk, which takes real time, would have its clock jump from one timer to the
            // next all the while, and execute each. With `sleep=on` its clock is then the host's.
            let sleep = if machine.disks.is_empty() { "off" } else { "on" };
            command.args(["-icount", &format!("shift=0,sleep={sleep}")]);
            // The random numbers the guest gets, on which the layout of its processes' memory depends.
            command.args(["-seed", "1"]);
            plugin.push_str(",count=on");
        }
        command.args(["-plugin", &plugin]);
        command
    }
}

/// Takes the place of that of an earlier boot.
fn control_socket(dir: &Path) -> UnixListener {
    let path = dir.join(Qemu.control_socket());
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(&path).unwrap_or_else(|error| panic!("cannot listen on {}: {error}", path.display()))
}

/// An initramfs with a root, and without modules.
fn write_with_root(vm: &VmSpec, spec: &BootSpec, root: &Path, path: &Path) {
    let shared = Shared {
        init: &vm.assets.guest_init,
        agent: None,
        modules_dir: &vm.assets.modules,
        modules: &[],
        signatures: Signatures::Keep,
        builtin_root: Some(BuiltinRoot::Directory(root)),
    };
    let packed = shared.pack().and_then(|shared| Ok([shared, vm_segment(spec)?].concat()));
    let packed = packed.unwrap_or_else(|error| panic!("{error}"));
    std::fs::write(path, packed).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

fn secrets() -> Secrets {
    let [a, b, c, d, ..] = SECRETS;
    Secrets { boot_id: BootId([a, b, c, d]), mac_key: Secret(SECRETS), token: Secret(SECRETS), cid: 0x5a5a }
}

/// The token of every boot, for an agent that the floor starts.
#[must_use]
pub(crate) fn token() -> Secret {
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

/// Reads marks until the program's. Fails, with what QEMU said last, when it ends or the deadline passes before.
fn watch(mut qemu: Running, power_on: u64) -> Result<Marks, String> {
    let lines = lines_of(qemu.0.stdout.take());
    let errors = lines_of(qemu.0.stderr.take());
    let deadline = Instant::now() + BOOT_DEADLINE;
    let [mut start, mut init]: [Option<Moment>; 2] = [None; 2];
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        match parse(&line) {
            Some(("start", moment)) => start = Some(moment),
            // Later programs of the C library's, such as the agent, begin with the same instructions.
            Some(("init", moment)) => _ = init.get_or_insert(moment),
            Some(("program", program)) => {
                let start = start.ok_or("the program ran before the guest started")?;
                let init = init.ok_or("the program ran without an init")?;
                return Ok(Marks { power_on, start, init, program });
            }
            Some(_) | None => {}
        }
    }
    drop(qemu);
    Err(errors.iter().last().unwrap_or_else(|| format!("QEMU said nothing; waited {BOOT_DEADLINE:?}")))
}

/// The lines of a stream, read by a thread of their own.
fn lines_of(stream: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in stream.map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
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
        let child =
            command.spawn().unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()));
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

/// The host's monotonic clock in ns, which the plugin uses too.
fn now() -> u64 {
    let now =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
