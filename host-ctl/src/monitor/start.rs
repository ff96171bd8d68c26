//! Starts a boot's processes, or finds those of an earlier monitor.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use firstlight_protocol::boot_spec::BootSpec;
use firstlight_protocol::port;
use nix::sys::stat::Mode;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Duration, Instant, timeout};

use super::error::MonitorError;
use super::events::Listener;
use super::files;
use super::ledger::Ledger;
use super::tasks::vsock_of;
use super::{restore, save};
use crate::agent::transport::Address;
use crate::backoff::{Attempt, jitter, retry};
use crate::boot::{self, Host, Secrets, tsc};
use crate::driver::config::{EVENTS_PORT_SOCKET, SERIAL_FIFO, VHOST_SOCKET, VSOCK_SOCKET, VsockConfig};
use crate::driver::process::{SpawnError, last_words, spawn};
use crate::driver::qemu::Qemu;
use crate::driver::qemu::qmp::{Qmp, QmpError, RunState};
use crate::driver::qemu::vsock::plug;
use crate::driver::{Driver as _, MachineConfig};
use crate::log::rotate;
use crate::vm::fold::Boot;
use crate::vm::journal::JournalError;
use crate::vm::process::ProcessHandle;
use crate::vm::vm_dir::name;
use crate::vm::{Entry, ProcessId, VmDir};
use crate::{assets, clock, sys};

/// Where the VMM's own words go.
const VMM_LOG: &str = "boot/vmm.log";

/// Where the vsock backend's go.
const BACKEND_LOG: &str = "boot/vsock-backend.log";

/// The context id that a backend's guest has; each backend serves one guest, so all have the same.
const BACKEND_GUEST_CID: &str = "3";

/// Bytes that a guest may send ahead on each connection of a backend. With the backend's own 64 KiB a guest stops after every packet of
/// the largest size; with these a copy out of it is a quarter faster. The backend reserves them, and touches them only for a slow reader.
const BACKEND_WINDOW: &str = "262144";

/// How long the vsock backend may take to listen.
const BACKEND_DEADLINE: Duration = Duration::from_secs(10);

/// How long the VMM may take to make its machine.
const VMM_DEADLINE: Duration = Duration::from_secs(30);

/// How long a VMM that has hung up may take to end.
const END_DEADLINE: Duration = Duration::from_secs(2);

/// How long a VMM that was found running may take to take our control connection.
const ADOPTION_DEADLINE: Duration = Duration::from_secs(10);

/// How long it may take to let a guest go on whose save or restore was not ended.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(20);

/// A process that is ended when nobody takes it over.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) handle: ProcessHandle,
    /// Ours to wait for, unless an earlier monitor started it.
    pub(super) child: Option<Child>,
    guarded: bool,
}

/// A boot that runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) vmm: Process,
    pub(super) backend: Option<Process>,
    pub(super) qmp: Option<Qmp>,
    /// What the guest does, where that is known.
    pub(super) run_state: Option<RunState>,
    pub(super) listener: Option<Listener>,
    /// Where clients are connected to the guest.
    pub(super) dialer: Option<UnixListener>,
    /// The host's end of the agent's port, where that is there already.
    pub(super) port: Option<UnixStream>,
    pub(super) spec: BootSpec,
    pub(super) vsock: Option<Address>,
    /// Of a copy: what the boot was told that was saved.
    pub(super) before: Option<BootSpec>,
    /// Of a copy: whether it does not know yet that it is one.
    pub(super) untold: bool,
    /// Whether the guest was just given its vsock, and has to set it up.
    pub(super) replugged: bool,
}

/// Starts a boot. When a step fails, what had been started is ended and the record says why.
pub(super) async fn start(vm: &VmDir, ledger: &mut Ledger) -> Result<Running, MonitorError> {
    // The counter's rate is measured over what has to be done anyway.
    let tsc = tsc::Sample::now();
    let secrets = Secrets::random().map_err(MonitorError::io("read", Path::new("/dev/urandom")))?;
    let spec = boot::guest::boot_spec(vm.spec(), &secrets);
    prepare(vm, &spec)?;
    let tsc_khz = match tsc {
        Some(sample) => sample.khz().await,
        None => None,
    };
    let host = Host { kernel_vsock: assets::has_kernel_vsock(), tsc_khz };
    let kernel = boot::kernel::bootable(vm.spec())?;
    let machine = boot::machine::machine(vm.spec(), &kernel, &secrets, &host)?;
    let listener = listener(machine.vsock)?;
    let vsock = address(machine.vsock);
    let dialer = dialer(&vsock)?;
    let host_boot = clock::host_boot_id().map_err(MonitorError::io("read", Path::new("boot_id")))?;
    ledger.require(Entry::BootStarted { boot_id: spec.boot_id, host_boot })?;
    let started = start_processes(vm, ledger, &machine).await;
    match started {
        Ok((vmm, backend, qmp)) => Ok(Running {
            vmm,
            backend,
            qmp: Some(qmp),
            run_state: Some(RunState::Running),
            listener,
            dialer,
            port: None,
            spec,
            vsock: Some(vsock),
            before: None,
            untold: false,
            replugged: false,
        }),
        Err(error) => {
            ledger.keep(vec![Entry::StartFailed { reason: error.to_string() }]);
            Err(error)
        }
    }
}

/// Finds the processes of the boot that is recorded; its VMM is `handle`.
pub(super) async fn adopt(
    vm: &VmDir,
    ledger: &mut Ledger,
    boot: &Boot,
    handle: ProcessHandle,
) -> Result<Running, MonitorError> {
    let vmm = Process { handle, child: None, guarded: false };
    let mut qmp = tokio::select! {
        qmp = connect(ADOPTION_DEADLINE) => qmp.ok(),
        () = vmm.ended() => None,
    };
    let spec = vm.boot_spec()?;
    if spec.boot_id != boot.id {
        return Err(MonitorError::OtherBoot);
    }
    let replugged = boot.saving || boot.is_untold();
    // A copy that was to be paused stays so.
    let held = replugged && !(boot.is_untold() && boot.paused);
    let mut backend = match boot.backend {
        Some(backend) => {
            backend.open().map_err(MonitorError::io("look at the process of", Path::new(BACKEND_LOG)))?
        }
        None => None,
    }
    .map(|handle| Process { handle, child: None, guarded: false });
    if let (Some(qmp), Some(address), true) = (&mut qmp, &boot.vsock, held) {
        // What is not mended here shows: the guest stays paused, or its agent cannot be reached.
        let _ = timeout(RECOVERY_DEADLINE, let_go(vm, ledger, qmp, address, &mut backend)).await;
    }
    let run_state = match &mut qmp {
        Some(qmp) => qmp.run_state().await.ok(),
        None => None,
    };
    let listener = match &boot.vsock {
        Some(Address::Kernel(cid)) => listener(VsockConfig::Kernel { cid: *cid })?,
        Some(Address::VhostUser(_) | Address::Monitor { .. }) => listener(VsockConfig::Backend)?,
        Some(Address::Serial(_)) => listener(VsockConfig::Serial)?,
        Some(Address::Unix(_)) | None => None,
    };
    let dialer = boot.vsock.as_ref().map_or(Ok(None), dialer)?;
    Ok(Running {
        vmm,
        backend,
        qmp,
        run_state,
        listener,
        dialer,
        port: None,
        spec,
        vsock: boot.vsock.clone(),
        before: boot.copy_of.and_then(|_| restore::before()),
        untold: boot.is_untold(),
        replugged,
    })
}

/// Lets a guest go on that an earlier monitor held still, for a save or a restore that it did not live to end. The
/// backend is a new one: the old one may not have outlived the connections that broke with that monitor.
async fn let_go(
    vm: &VmDir,
    ledger: &mut Ledger,
    qmp: &mut Qmp,
    address: &Address,
    backend: &mut Option<Process>,
) -> Result<(), MonitorError> {
    let vsock = vsock_of(address);
    save::let_move(qmp).await.map_err(MonitorError::Vmm)?;
    if vsock == VsockConfig::Backend {
        if let Some(old) = backend.as_mut() {
            old.end();
        }
        for socket in [VHOST_SOCKET, VSOCK_SOCKET] {
            files::remove(Path::new(socket)).map_err(MonitorError::io("remove", Path::new(socket)))?;
        }
        *backend = Some(start_backend(vm, ledger).await?);
    }
    plug(qmp, vsock).await.map_err(MonitorError::Vmm)
}

/// Opens the console's FIFO so that it always has a reader, and makes it as large as the kernel lets us.
pub(super) fn open_console() -> Result<AsyncFd<OwnedFd>, MonitorError> {
    /// Bytes the console may be ahead of a monitor, or of none (`fcntl(2)`, `F_SETPIPE_SZ`).
    const BUFFER: usize = 1 << 20;
    let path = format!("{SERIAL_FIFO}.out");
    let path = Path::new(&path);
    let mut options = std::fs::File::options();
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let fifo = options.read(true).write(true).custom_flags(nonblocking).open(path);
    let fifo = fifo.map_err(MonitorError::io("open", path))?;
    // A smaller one is only sooner full.
    let _ = rustix::pipe::fcntl_setpipe_size(&fifo, BUFFER);
    sys::readiness(fifo.into()).map_err(MonitorError::io("wait for", path))
}

/// The files a boot needs before its processes.
fn prepare(vm: &VmDir, spec: &BootSpec) -> Result<(), MonitorError> {
    let boot_dir = Path::new(name::BOOT);
    files::clean_boot_dir().map_err(MonitorError::io("clean", boot_dir))?;
    let document = boot_dir.join("boot.json");
    files::write_private(&document, spec.to_json().as_bytes())
        .map_err(MonitorError::io("write", &document))?;
    // A baked image has an initrd of its own.
    if vm.spec().baked.is_none() {
        boot::initramfs::write(vm.spec(), spec, Path::new(boot::machine::INITRAMFS))?;
    }
    make_console(vm)
}

/// The console's FIFOs and its log.
pub(super) fn make_console(vm: &VmDir) -> Result<(), MonitorError> {
    for end in ["in", "out"] {
        let fifo = format!("{SERIAL_FIFO}.{end}");
        let made = nix::unistd::mkfifo(fifo.as_str(), Mode::S_IRUSR | Mode::S_IWUSR);
        made.map_err(|errno| MonitorError::io("make", Path::new(&fifo))(errno.into()))?;
    }
    // Each boot begins a log file, so that an earlier one's words are never taken for its own.
    let log = Path::new(name::SERIAL_LOG);
    if std::fs::metadata(log).is_ok_and(|metadata| metadata.len() > 0) {
        rotate::rotate(log, vm.spec().logs.max_files)?;
    }
    Ok(())
}

pub(super) fn listener(vsock: VsockConfig) -> Result<Option<Listener>, MonitorError> {
    match vsock {
        VsockConfig::Backend => {
            let path = format!("{VSOCK_SOCKET}_{}", port::EVENTS);
            let path = Path::new(&path);
            Listener::unix(path).map(Some).map_err(MonitorError::io("listen on", path))
        }
        VsockConfig::Kernel { cid } => Listener::kernel(cid)
            .map_err(MonitorError::io("listen on the vsock port of", Path::new("/dev/vsock"))),
        VsockConfig::Serial => Ok(Some(Listener::Port { path: EVENTS_PORT_SOCKET.into(), first: None })),
    }
}

/// The monitor's own door to the guest. The kernel's vsock needs none.
pub(super) fn dialer(vsock: &Address) -> Result<Option<UnixListener>, MonitorError> {
    match vsock {
        Address::VhostUser(_) | Address::Monitor { .. } | Address::Serial(_) => {
            let path = Path::new(name::DIALER_SOCKET);
            let bound = files::remove(path).and_then(|()| UnixListener::bind(path));
            bound.map(Some).map_err(MonitorError::io("listen on", path))
        }
        Address::Kernel(_) | Address::Unix(_) => Ok(None),
    }
}

pub(super) fn address(vsock: VsockConfig) -> Address {
    match vsock {
        VsockConfig::Backend => Address::VhostUser(VSOCK_SOCKET.into()),
        VsockConfig::Kernel { cid } => Address::Kernel(cid),
        VsockConfig::Serial => Address::Serial(name::DIALER_SOCKET.into()),
    }
}

pub(super) async fn start_processes(
    vm: &VmDir,
    ledger: &mut Ledger,
    machine: &MachineConfig,
) -> Result<(Process, Option<Process>, Qmp), MonitorError> {
    let backend = match machine.vsock {
        VsockConfig::Backend => Some(start_backend(vm, ledger).await?),
        VsockConfig::Kernel { .. } | VsockConfig::Serial => None,
    };
    let path = Qemu.control_socket();
    let control = std::os::unix::net::UnixListener::bind(path);
    let control = control.map_err(MonitorError::io("listen on", path))?;
    let mut vmm = Process::start(Qemu.command(machine, control), VMM_LOG, |process| {
        ledger.require(Entry::VmmStarted { process, vsock: Some(address(machine.vsock)) })
    })?;
    let connected = tokio::select! {
        connected = connect(VMM_DEADLINE) => connected,
        () = vmm.ended() => Err(QmpError::Closed),
    };
    match connected {
        Ok(qmp) => Ok((vmm, backend, qmp)),
        // A VMM that ends takes its socket along, and its own words say more.
        Err(QmpError::Closed | QmpError::Io { .. }) if timeout(END_DEADLINE, vmm.ended()).await.is_ok() => {
            Err(MonitorError::VmmRefused { reason: vmm.last_words(VMM_LOG) })
        }
        Err(error) => Err(MonitorError::Vmm(error)),
    }
}

async fn start_backend(vm: &VmDir, ledger: &mut Ledger) -> Result<Process, MonitorError> {
    let program = vm.spec().assets.vsock_backend.as_ref().ok_or(MonitorError::NoVsock)?;
    let mut command = Command::new(program);
    command.args(["--guest-cid", BACKEND_GUEST_CID, "--socket", VHOST_SOCKET, "--uds-path", VSOCK_SOCKET]);
    command.args(["--tx-buffer-size", BACKEND_WINDOW]).stdin(Stdio::null());
    let mut backend =
        Process::start(command, BACKEND_LOG, |process| ledger.require(Entry::BackendStarted { process }))?;
    let listens = retry(Instant::now() + BACKEND_DEADLINE, jitter, async || {
        if Path::new(VHOST_SOCKET).exists() { Attempt::Done(()) } else { Attempt::NotYet(()) }
    });
    let listens = tokio::select! {
        listens = listens => listens,
        () = backend.ended() => Err(()),
    };
    match listens {
        Ok(()) => Ok(backend),
        Err(()) => Err(MonitorError::BackendRefused { reason: backend.last_words(BACKEND_LOG) }),
    }
}

/// Connects to the VMM, which answers when it has made its machine.
async fn connect(patience: Duration) -> Result<Qmp, QmpError> {
    let connected = timeout(patience, Qmp::connect(Qemu.control_socket())).await;
    connected.unwrap_or(Err(QmpError::Timeout("make its machine")))
}

impl Process {
    fn start(
        command: Command,
        log: &str,
        record: impl FnOnce(ProcessId) -> Result<(), JournalError>,
    ) -> Result<Process, MonitorError> {
        let mut identity = None;
        let spawned = spawn(command, Path::new(log), |process| {
            identity = Some(process);
            record(process)
        });
        let mut child = spawned.map_err(|error| match error {
            SpawnError::Start { program, source } => MonitorError::Spawn { program, source },
            SpawnError::Record(error) => error.into(),
        })?;
        // A child that nobody has waited for keeps its pid, so this is it even if it has ended.
        let handle = match identity.map(|identity| identity.open_unreaped()) {
            Some(Ok(handle)) => handle,
            Some(Err(error)) => {
                let _ = child.kill().and_then(|()| child.wait());
                return Err(MonitorError::io("open the process of", Path::new(log))(error));
            }
            None => {
                return Err(MonitorError::io("start the process of", Path::new(log))(
                    io::ErrorKind::NotFound.into(),
                ));
            }
        };
        Ok(Process { handle, child: Some(child), guarded: true })
    }

    /// Lets it live on without us.
    pub(super) fn let_live(&mut self) {
        self.guarded = false;
    }

    /// Returns when the process has ended.
    async fn ended(&self) {
        match self.handle.end() {
            Ok(end) => drop(end.readable().await),
            // Out of descriptors: the wait it stands beside has a deadline.
            Err(_) => std::future::pending().await,
        }
    }

    /// How it ended, with its last words.
    fn last_words(&mut self, log: &str) -> String {
        let words = last_words(Path::new(log)).unwrap_or_else(|| "it said nothing".into());
        format!("{words} ({})", self.status())
    }

    /// How it ended; for a process that has.
    pub(super) fn status(&mut self) -> String {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        match status.map(|status| (status.code(), status.signal())) {
            Some((Some(code), _)) => format!("exit code {code}"),
            Some((None, Some(signal))) => format!("killed by signal {signal}"),
            Some((None, None)) | None => "how is not known, because another monitor started it".into(),
        }
    }

    /// Kills it and waits for it.
    pub(super) fn end(&mut self) {
        // It cannot fail for a process of our own user, and there is nothing else to try.
        let _ = self.handle.kill();
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.guarded {
            self.end();
        }
    }
}
