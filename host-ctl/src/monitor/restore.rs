//! A boot that begins with the memory of a snapshot, instead of the kernel.
//!
//! ```text
//!  VMM without a guest (the memory is read beside that, and every file's seal checked) ─► load the devices ─► not due any more
//!     ─► plug a vsock ─► go on
//!     ─► agent: who this copy is ─► init: RESTORE, over its event stream ─► AGENT-READY, PROGRAM-START: Running
//! ```

use std::fs::File;
use std::path::Path;

use firstlight_protocol::boot_spec::{BootSpec, Interface};
use firstlight_protocol::message::snapshot::{ENTROPY_LEN, InterfaceIdentity, SnapshotRestoreRequest};
use firstlight_protocol::sentinel::MacKey;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::error::MonitorError;
use super::events::Identity;
use super::files;
use super::ledger::Ledger;
use super::save;
use super::start::{self, Running};
use crate::assets;
use crate::boot::{self, Host, Secrets};
use crate::clock::{self, Stamp};
use crate::driver::config::Origin;
use crate::driver::qemu::memory;
use crate::driver::qemu::qmp::{Qmp, RunState};
use crate::log::OutputLog;
use crate::snapshot::{Saved, Sealed, SnapshotError, name as part, sparse};
use crate::vm::fold::Boot;
use crate::vm::vm_dir::name;
use crate::vm::{Entry, VmDir, VmSpec};

/// What was known of the guest that was saved; kept for as long as the boot runs.
const BEFORE: &str = "boot/before.json";

/// Whether the VM's next boot is to be restored: it has something to begin with.
pub(super) fn is_due(vm: &VmDir) -> bool {
    vm.file(part::RESTORE).join(part::SEALS).exists()
}

/// Whether an earlier monitor did not live to load the memory of `boot`: that guest has never moved, and never will.
pub(super) fn is_half_loaded(vm: &VmDir, boot: &Boot) -> bool {
    boot.copy_of.is_some() && boot.restored.is_none() && is_due(vm)
}

/// Says for good that the guest is about to move. From then on its disks are its own, and loading its memory once more
/// would be loading another guest's.
fn is_due_no_more() -> Result<(), MonitorError> {
    let dir = Path::new(part::RESTORE);
    let seals = dir.join(part::SEALS);
    std::fs::remove_file(&seals).map_err(MonitorError::io("remove", &seals))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(MonitorError::io("sync", dir))
}

/// Restores the guest. When a step fails, what had been started is ended and the record says why.
pub(super) async fn start(vm: &VmDir, ledger: &mut Ledger) -> Result<Running, MonitorError> {
    let name = vm.spec().restored_from.clone().unwrap_or_default();
    let from = Path::new(part::RESTORE);
    let saved = Saved::read(&from.join(part::GUEST), &name)?;
    let seals = read_seals(&from.join(part::SEALS))?;
    let secrets = Secrets::random().map_err(MonitorError::io("read", Path::new("/dev/urandom")))?;
    let mut spec = boot::guest::boot_spec(vm.spec(), &secrets);
    spec.mac_key = MacKey::new(&saved.boot.mac_key).of_copy(spec.boot_id);
    prepare(vm, &spec, &saved)?;
    let host = Host { kernel_vsock: assets::has_kernel_vsock(), tsc_khz: None };
    let mut machine = boot::machine::machine(vm.spec(), &vm.spec().assets.kernel, &secrets, &host)?;
    let vsock = start::address(machine.vsock);
    let dialer = start::dialer(&vsock)?;
    let listener = start::listener(machine.vsock)?;
    let host_boot = clock::host_boot_id().map_err(MonitorError::io("read", Path::new("boot_id")))?;
    ledger.require(Entry::BootStarted { boot_id: spec.boot_id, host_boot })?;
    ledger.require(Entry::CopyOf { boot: saved.boot.boot_id })?;
    let started = async {
        let beginning = Beginning::read(vm.spec(), &name, seals)?;
        // The kernel is in the memory.
        machine.origin = Origin::Memory { ram: memory::path_of(&beginning.ram) };
        let (vmm, backend, mut qmp) = start::start_processes(vm, ledger, &machine).await?;
        beginning.load(&mut qmp).await?;
        is_due_no_more()?;
        save::go_on(&mut qmp, machine.vsock).await.map_err(MonitorError::Vmm)?;
        Ok((vmm, backend, qmp))
    };
    match started.await {
        Ok((vmm, backend, qmp)) => {
            // QEMU has read it; what cannot be removed goes with the VM.
            let _ = std::fs::remove_dir_all(from);
            Ok(Running {
                vmm,
                backend,
                qmp: Some(qmp),
                run_state: Some(RunState::Running),
                listener,
                dialer,
                spec,
                vsock: Some(vsock),
                before: Some(saved.boot),
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

fn read_seals(path: &Path) -> Result<Vec<Sealed>, MonitorError> {
    let bytes = std::fs::read(path).map_err(MonitorError::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|error| MonitorError::io("parse", path)(error.into()))
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
    ram: File,
    filled: JoinHandle<Result<(), MonitorError>>,
    checked: JoinHandle<Result<(), SnapshotError>>,
}

impl Beginning {
    /// Begins to fill the memory of a VM of `spec`, and to look at every byte of the files in `seals`.
    fn read(spec: &VmSpec, snapshot: &str, seals: Vec<Sealed>) -> Result<Beginning, MonitorError> {
        let path = Path::new(part::RESTORE).join(part::MEMORY);
        let failed = |operation| MonitorError::io(operation, &path);
        let length = u64::from(spec.memory_mib) << 20;
        let ram = memory::new_ram(length).map_err(failed("make the memory for"))?;
        let (target, file) = (ram.try_clone(), File::open(&path));
        let (target, file) = (target.map_err(failed("fill"))?, file.map_err(failed("open"))?);
        let name = snapshot.to_owned();
        Ok(Beginning {
            ram,
            filled: spawn_blocking(move || {
                sparse::fill(&target, &file, length).map_err(MonitorError::io("read", &path))
            }),
            checked: spawn_blocking(move || {
                seals.iter().try_for_each(|seal| seal.check(Path::new("."), &name))
            }),
        })
    }

    /// Loads the devices' state on top of the memory. The guest may move only once every byte of both and of its disks was
    /// found to be what was saved.
    async fn load(self, qmp: &mut Qmp) -> Result<(), MonitorError> {
        let path = Path::new(part::RESTORE).join(part::DEVICES);
        let filled = ended(self.filled.await);
        // Our word on files that are damaged is better than QEMU's.
        ended(self.checked.await)??;
        filled??;
        let file = File::open(&path).map_err(MonitorError::io("open", &path))?;
        let length = self.ram.metadata().map_err(MonitorError::io("look at the memory of", &path))?.len();
        memory::load(qmp, file, length).await.map_err(MonitorError::Vmm)
    }
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
