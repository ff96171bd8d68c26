//! A boot that begins with the memory of a snapshot, instead of the kernel.
//!
//! ```text
//!  VMM without a guest (the memory is read beside that, and every file's seal checked) ─► load the devices ─► not due any more
//!     ─► plug a vsock ─► go on, unless it is to be paused
//!     ─► agent: who this copy is ─► init: RESTORE, over its event stream ─► AGENT-READY, PROGRAM-START: Running
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use firstlight_protocol::boot_spec::{BootSpec, Interface};
use firstlight_protocol::message::snapshot::{ENTROPY_LEN, InterfaceIdentity, SnapshotRestoreRequest};
use firstlight_protocol::sentinel::MacKey;
use tokio::net::UnixStream;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::error::MonitorError;
use super::events::{Identity, Listener};
use super::files;
use super::ledger::Ledger;
use super::save;
use super::start::{self, Running};
use crate::assets;
use crate::boot::{self, Host, Secrets};
use crate::clock::{self, Stamp};
use crate::driver::config::{AGENT_PORT_SOCKET, Origin, Writes};
use crate::driver::qemu::qmp::{Qmp, RunState};
use crate::driver::qemu::{memory, vsock};
use crate::log::OutputLog;
use crate::snapshot::{Memory, Plan, Saved, SnapshotError, name as part, sparse};
use crate::vm::fold::Boot;
use crate::vm::vm_dir::name;
use crate::vm::{Entry, VmDir, VmSpec};

/// What was known of the guest that was saved; kept for as long as the boot runs.
const BEFORE: &str = "boot/before.json";

/// Whether the VM's next boot is to be restored: it has something to begin with.
pub(super) fn is_due(vm: &VmDir) -> bool {
    Plan::path(vm.path()).exists()
}

/// Whether an earlier monitor did not live to load the memory of `boot`: that guest has never moved, and never will.
pub(super) fn is_half_loaded(vm: &VmDir, boot: &Boot) -> bool {
    boot.is_untold() && is_due(vm)
}

/// Says for good that the guest is about to move. From then on its disks are its own, and loading its memory once more
/// would be loading another guest's.
fn is_due_no_more() -> Result<(), MonitorError> {
    let (dir, plan) = (Path::new(part::RESTORE), Plan::path(here()));
    std::fs::remove_file(&plan).map_err(MonitorError::io("remove", &plan))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(MonitorError::io("sync", dir))
}

/// Restores the guest. When a step fails, what had been started is ended and the record says why.
pub(super) async fn start(vm: &VmDir, ledger: &mut Ledger) -> Result<Running, MonitorError> {
    let name = vm.spec().restored_from.clone().unwrap_or_default();
    let from = Path::new(part::RESTORE);
    let saved = Saved::read(&from.join(part::GUEST), &name)?;
    let plan = Plan::read(here())?;
    let paused = plan.paused;
    let secrets = Secrets::random().map_err(MonitorError::io("read", Path::new("/dev/urandom")))?;
    let mut spec = boot::guest::boot_spec(vm.spec(), &secrets);
    spec.mac_key = MacKey::new(&saved.boot.mac_key).of_copy(spec.boot_id);
    prepare(vm, &spec, &saved)?;
    let host = Host { kernel_vsock: assets::has_kernel_vsock(), tsc_khz: None };
    let mut machine = boot::machine::machine(vm.spec(), &vm.spec().assets.kernel, &secrets, &host)?;
    let address = start::address(machine.vsock);
    let dialer = start::dialer(&address)?;
    let mut listener = start::listener(machine.vsock)?;
    let host_boot = clock::host_boot_id().map_err(MonitorError::io("read", Path::new("boot_id")))?;
    ledger.require(Entry::BootStarted { boot_id: spec.boot_id, host_boot })?;
    ledger.require(Entry::CopyOf { boot: saved.boot.boot_id, memory: plan.memory })?;
    let started = async {
        let beginning = Beginning::read(vm.spec(), &name, plan)?;
        // The kernel is in the memory.
        machine.origin = beginning.origin();
        let (vmm, backend, mut qmp) = start::start_processes(vm, ledger, &machine).await?;
        let port = match &mut listener {
            Some(Listener::Port { path, first }) => {
                *first = Some(connect(path).await?);
                Some(connect(Path::new(AGENT_PORT_SOCKET)).await?)
            }
            Some(Listener::Unix(_) | Listener::Kernel { .. }) | None => None,
        };
        beginning.load(&mut qmp, vm.spec()).await?;
        if paused {
            // Whoever adopts the VM has to know before it is due no more.
            ledger.require(Entry::Paused { paused })?;
        }
        is_due_no_more()?;
        let set_off = async {
            if paused {
                return vsock::plug(&mut qmp, machine.vsock).await;
            }
            save::go_on(&mut qmp, machine.vsock).await
        };
        set_off.await.map_err(MonitorError::Vmm)?;
        Ok((vmm, backend, qmp, port))
    };
    match started.await {
        Ok((vmm, backend, qmp, port)) => {
            // QEMU has read it; what cannot be removed goes with the VM.
            let _ = std::fs::remove_dir_all(from);
            Ok(Running {
                vmm,
                backend,
                qmp: Some(qmp),
                run_state: Some(if paused { RunState::Paused } else { RunState::Running }),
                listener,
                dialer,
                port,
                spec,
                vsock: Some(address),
                before: Some(saved.boot),
                untold: true,
                replugged: true,
            })
        }
        Err(error) => {
            ledger.keep(vec![Entry::StartFailed { reason: MonitorError::to_string(&error) }]);
            Err(error)
        }
    }
}

/// What the guest that is adopted was before; `None` for one that is no copy.
pub(super) fn before() -> Option<BootSpec> {
    let bytes = std::fs::read(BEFORE).ok()?;
    BootSpec::from_json(&bytes).ok()
}

/// Takes a port before the guest has its memory. It was saved with somebody at the other end of each, and is spared the news of a
/// change: what it executes for the first time an emulator translates first.
async fn connect(port: &Path) -> Result<UnixStream, MonitorError> {
    UnixStream::connect(port).await.map_err(MonitorError::io("connect to", port))
}

/// The files of a restored boot.
fn prepare(vm: &VmDir, spec: &BootSpec, saved: &Saved) -> Result<(), MonitorError> {
    let boot_dir = Path::new(name::BOOT);
    files::clean_boot_dir().map_err(MonitorError::io("clean", boot_dir))?;
    for (path, document) in [(boot_dir.join("boot.json"), spec), (BEFORE.into(), &saved.boot)] {
        files::write_private(&path, document.to_json().as_bytes())
            .map_err(MonitorError::io("write", &path))?;
    }
    start::make_console(vm)?;
    Ok(OutputLog::begin_at(Path::new(super::tasks::OUTPUT_POSITION), saved.output())?)
}

/// What the guest begins with, read and checked while its VMM starts.
struct Beginning {
    ram: Ram,
    checked: JoinHandle<Result<(), SnapshotError>>,
}

/// The file that the guest has as memory.
enum Ram {
    /// One of its own, which is being filled.
    Filled { ram: File, filled: JoinHandle<Result<(), MonitorError>> },
    /// The snapshot's.
    Mapped,
}

impl Beginning {
    /// Begins to check the files of `plan`, and to fill the memory of a VM of `spec` that gets one of its own.
    fn read(spec: &VmSpec, snapshot: &str, plan: Plan) -> Result<Beginning, MonitorError> {
        let ram = match plan.memory {
            Memory::Copied => Ram::fill(memory_length(spec))?,
            Memory::Mapped => Ram::Mapped,
        };
        let name = snapshot.to_owned();
        Ok(Beginning { ram, checked: spawn_blocking(move || plan.check(here(), &name)) })
    }

    fn origin(&self) -> Origin {
        match &self.ram {
            Ram::Filled { ram, .. } => Origin::Memory { ram: memory::path_of(ram), writes: Writes::Shared },
            Ram::Mapped => Origin::Memory { ram: saved_memory(), writes: Writes::Private },
        }
    }

    /// Loads the devices' state on top of the memory. The guest may move only once both and its disks were found to be what
    /// was saved.
    async fn load(self, qmp: &mut Qmp, spec: &VmSpec) -> Result<(), MonitorError> {
        let path = Path::new(part::RESTORE).join(part::DEVICES);
        // Ours for as long as QEMU may still open it.
        let (_ram, filled) = match self.ram {
            Ram::Filled { ram, filled } => (Some(ram), ended(filled.await)),
            Ram::Mapped => (None, Ok(Ok(()))),
        };
        // Our word on files that are damaged is better than QEMU's.
        ended(self.checked.await)??;
        filled??;
        let file = File::open(&path).map_err(MonitorError::io("open", &path))?;
        memory::load(qmp, file, memory_length(spec)).await.map_err(MonitorError::Vmm)
    }
}

impl Ram {
    /// A file in memory of `length` bytes, which gets what was saved.
    fn fill(length: u64) -> Result<Ram, MonitorError> {
        let path = saved_memory();
        let failed = |operation| MonitorError::io(operation, &path);
        let ram = memory::new_ram(length).map_err(failed("make the memory for"))?;
        let (target, file) = (ram.try_clone(), File::open(&path));
        let (target, file) = (target.map_err(failed("fill"))?, file.map_err(failed("open"))?);
        let filled = spawn_blocking(move || {
            sparse::fill(&target, &file, length).map_err(MonitorError::io("read", &path))
        });
        Ok(Ram::Filled { ram, filled })
    }
}

/// Our working directory, which is the VM's.
fn here() -> &'static Path {
    Path::new("")
}

fn saved_memory() -> PathBuf {
    Path::new(part::RESTORE).join(part::MEMORY)
}

fn memory_length(spec: &VmSpec) -> u64 {
    u64::from(spec.memory_mib) << 20
}

fn ended<T>(task: Result<T, JoinError>) -> Result<T, MonitorError> {
    task.map_err(|error| MonitorError::io("read", Path::new(part::RESTORE))(error.into()))
}

/// What the copy is told, as of now.
pub(super) fn request(now: &BootSpec, before: &BootSpec) -> std::io::Result<Option<SnapshotRestoreRequest>> {
    let Some(agent) = &now.agent else { return Ok(None) };
    let text = |text: &String| text.clone().into_bytes();
    let own = now.program.env.iter().filter(|(name, value)| before.program.env.get(*name) != Some(*value));
    Ok(Some(SnapshotRestoreRequest {
        boot_id: now.boot_id,
        wall_ns: Stamp::now().wall_ns,
        entropy: crate::random::bytes::<ENTROPY_LEN>()?,
        hostname: now.hostname.clone(),
        machine_id: machine_id(crate::random::bytes()?),
        interfaces: interfaces(&now.network.interfaces, &before.network.interfaces),
        nameservers: now.network.dns.servers.clone(),
        environment: own.map(|(name, value)| (text(name), text(value))).collect(),
        token: agent.token.clone(),
    }))
}

/// A random UUID of version 4, as `machine-id(5)` asks for. Source: RFC 9562, section 5.4.
fn machine_id(mut random: [u8; 16]) -> [u8; 16] {
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    random
}

/// The cards are the same, so they pair up in order.
fn interfaces(now: &[Interface], before: &[Interface]) -> Vec<InterfaceIdentity> {
    let pairs = now.iter().zip(before).filter_map(|(now, before)| {
        Some(InterfaceIdentity {
            was: before.mac?.0,
            mac: now.mac?.0,
            addresses: now.addresses.iter().map(|cidr| (cidr.address, cidr.prefix)).collect(),
            gateways: now.gateways.clone(),
        })
    });
    pairs.collect()
}

/// Whose sentinels prove a stream to be the copy's init before that has become itself.
pub(super) fn identity_of(before: &BootSpec) -> Identity {
    Identity { boot: before.boot_id, key: MacKey::new(&before.mac_key), before: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_id_is_a_random_uuid() {
        let id = machine_id([0xff; 16]);
        assert_eq!((id[6], id[8]), (0x4f, 0xbf));
        assert_eq!(id[0], 0xff);
    }
}
