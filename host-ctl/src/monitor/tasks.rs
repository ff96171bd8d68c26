//! What runs beside the owner for the length of a boot.

use firstlight_protocol::boot_spec::BootSpec;
use firstlight_protocol::hex::BootId;
use firstlight_protocol::sentinel::MacKey;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use std::path::{Path, PathBuf};

use super::agent_calls::{self, Agent};
use super::closing::{Close, Closing};
use super::console_output::ConsoleOutput;
use super::error::MonitorError;
use super::events::{self, Identity};
use super::input::{Input, QUEUE};
use super::port;
use super::program_output;
use super::restore;
use super::road::Road;
use super::save::Job;
use super::serial::{self, Said, Serial};
use super::start::{Process, Running, open_console};
use super::vmm::{self, VmmCommand};
use crate::agent::transport::Address;
use crate::agent::transport::dialer::{self, Backend};
use crate::driver::config::{VSOCK_SOCKET, VsockConfig};
use crate::log::{LogError, OutputLog};
use crate::snapshot::Obstacle;
use crate::vm::fold::Boot;
use crate::vm::record::SaveFailure;
use crate::vm::vm_dir::name;
use crate::vm::{ProcessId, VmDir, VmSpec};

/// Beside the output log: how much of this boot's output is in it.
pub(super) const OUTPUT_POSITION: &str = "boot/output.position";

/// Commands that may wait for the VMM.
const VMM_COMMANDS: usize = 16;

/// The tasks of a boot and what they need.
pub(super) struct Tasks {
    set: JoinSet<()>,
    inputs: mpsc::Sender<Input>,
    close: Close,
    vmm: Process,
    vmm_commands: mpsc::Sender<VmmCommand>,
    backend: Option<Process>,
    agent: Option<Agent>,
    identity: Identity,
    /// What the boot was told.
    boot: BootSpec,
    /// What the boot was told that it is a copy of, until it has been told who it is.
    before: Option<BootSpec>,
    /// Whether the guest knows who it is.
    told: watch::Sender<bool>,
    /// Until the program's output is followed.
    output: Option<OutputLog>,
}

impl Tasks {
    /// Starts the tasks that every boot has. With `recover`, what the serial log says already is the answer.
    pub(super) fn start(
        spec: &VmSpec,
        running: Running,
        recover: Option<u32>,
    ) -> Result<(Tasks, mpsc::Receiver<Input>, Said), MonitorError> {
        let Running {
            vmm,
            backend,
            qmp,
            listener,
            dialer,
            port: first,
            spec: boot,
            vsock,
            before,
            untold,
            replugged,
            run_state: _,
        } = running;
        let told = watch::Sender::new(!untold);
        let identity = Identity {
            boot: boot.boot_id,
            key: MacKey::new(&boot.mac_key),
            before: before.as_ref().map(|before| Box::new(restore::identity_of(before))),
        };
        let road = Road::new();
        if let (true, Some(address)) = (replugged, &vsock) {
            road.replug(vsock_of(address));
        }
        let mut set = JoinSet::new();
        let greeted = port::Greeted::default();
        let is_serial = vsock.as_ref().is_some_and(|address| vsock_of(address) == VsockConfig::Serial);
        let agent = vsock.zip(boot.agent.clone());
        let agent = agent.map(|(address, agent)| Agent {
            address,
            token: agent.token,
            road: road.clone(),
            greeted: port::Greeted::clone(&greeted),
        });
        let (inputs, receiver) = mpsc::channel(QUEUE);
        let close = Close::new();
        let closing = close.closing();
        let (vmm_commands, commands) = mpsc::channel(VMM_COMMANDS);
        let output = open_output(spec)?;
        // Without an agent the console is the program's only way out.
        let (output, console) = if agent.is_some() { (Some(output), None) } else { (None, Some(output)) };
        let console = console.map(ConsoleOutput::new);
        let mut serial = Serial::open(Path::new(name::SERIAL_LOG), spec.logs, identity.clone(), console)?;
        let said = recover.map(|rotations| serial.recover(rotations)).transpose()?.unwrap_or_default();
        let process = vmm.handle.end().map_err(MonitorError::io("wait for", Path::new("the VMM")))?;
        set.spawn(vmm::watch(process, qmp, commands, inputs.clone()));
        set.spawn(serial::run(serial, open_console()?, inputs.clone(), closing.clone()));
        if let Some(dialer) = dialer {
            let backend = if is_serial {
                let (requests, asked) = mpsc::channel(port::REQUESTS);
                set.spawn(port::keep(first, asked, greeted, closing.clone()));
                Backend::Serial(requests)
            } else {
                Backend::VhostUser(VSOCK_SOCKET.into())
            };
            set.spawn(connect_clients(dialer, backend, road.clone(), closing.clone()));
        }
        if let Some(listener) = listener {
            let told = told.subscribe();
            let heard = events::listen(listener, identity.clone(), road, inputs.clone(), closing.clone());
            set.spawn(async move {
                // Over a port the host dials, and the only processor of a small guest has better to do until then.
                if !is_serial || is_told(told, closing).await {
                    heard.await;
                }
            });
        }
        let tasks = Tasks {
            set,
            inputs,
            close,
            vmm,
            vmm_commands,
            backend,
            agent,
            identity,
            boot,
            before,
            told,
            output,
        };
        Ok((tasks, receiver, said))
    }

    /// The boot is complete: its processes are to live on whatever becomes of us.
    pub(super) fn let_live(&mut self) {
        self.vmm.let_live();
        self.backend.iter_mut().for_each(Process::let_live);
    }

    /// A way in for others who have something to tell.
    pub(super) fn inputs(&self) -> mpsc::Sender<Input> {
        self.inputs.clone()
    }

    /// Tells the VMM something, if it still listens.
    pub(super) fn tell_vmm(&self, command: VmmCommand) {
        // A VMM that reads nothing is dealt with by the deadline of what it was told.
        let _ = self.vmm_commands.try_send(command);
    }

    /// Ends the VMM by force. Its end is heard like any other.
    pub(super) fn kill_vmm(&self) {
        // It cannot fail for a process of our own user, and there is nothing else to try.
        let _ = self.vmm.handle.kill();
    }

    /// Begins to write down the program's output; done once.
    pub(super) fn follow_program_output(&mut self) {
        if let Some((agent, log)) = self.agent.clone().zip(self.output.take()) {
            let closing = self.close.closing();
            self.set.spawn(program_output::run(agent, log, self.inputs.clone(), closing));
        }
    }

    /// Asks the agent for the boot's events from `from_seq` on.
    pub(super) fn recall_events(&mut self, from_seq: u64) {
        if let Some(agent) = self.agent.clone() {
            self.set.spawn(agent_calls::recall(agent, from_seq, self.identity.clone(), self.inputs.clone()));
        }
    }

    /// Saves the guest of the process `vmm` into `draft`.
    ///
    /// # Errors
    /// Why that cannot even be tried.
    pub(super) fn save(&self, spec: &VmSpec, vmm: ProcessId, draft: PathBuf) -> Result<(), String> {
        if let Some(obstacle) = Obstacle::of(spec) {
            return Err(obstacle.to_string());
        }
        let Some(agent) = self.agent.clone() else { return Err(Obstacle::NoAgent.to_string()) };
        let vsock = vsock_of(&agent.address);
        let disks = crate::boot::machine::disks(spec);
        let memory = u64::from(spec.memory_mib) << 20;
        let job = Job { draft, vmm: vmm.pid, agent, vsock, disks, boot: self.boot.clone(), memory };
        let told = self.vmm_commands.try_send(VmmCommand::Save(Box::new(job)));
        told.map_err(|_| "its VMM takes no commands".to_owned())
    }

    /// Ends the save that an earlier monitor did not live to end.
    pub(super) fn end_save(&mut self, failure: SaveFailure) {
        // Without an agent nobody could have begun one.
        if let Some(agent) = self.agent.clone() {
            self.set.spawn(agent_calls::end_save(agent, failure, self.inputs.clone()));
        }
    }

    /// Tells a copy who it is; done once.
    pub(super) fn tell_copy(&mut self) {
        if let Some((agent, before)) = self.agent.clone().zip(self.before.take()) {
            let (boot, inputs, told) = (self.boot.clone(), self.inputs.clone(), self.told.clone());
            self.set.spawn(async move {
                agent_calls::restore(agent, boot, before, inputs).await;
                told.send_replace(true);
            });
        }
    }

    /// Sets the clock of a guest that stood still; `false` when nobody in it could. Nor behind a vsock backend: QEMU says that the
    /// guest goes on before the backend has its queues back, and a connection that comes in between ends the backend's only thread
    /// (decision 0024).
    pub(super) fn set_clock(&mut self, resumption: u64) -> bool {
        let reachable = |agent: &Agent| vsock_of(&agent.address) != VsockConfig::Backend;
        let Some(agent) = self.agent.clone().filter(reachable) else { return false };
        let inputs = self.inputs.clone();
        self.set.spawn(async move {
            agent_calls::set_clock(agent).await;
            let _ = inputs.send(Input::ClockSet { resumption }).await;
        });
        true
    }

    /// The boot.
    pub(super) fn boot_id(&self) -> BootId {
        self.identity.boot
    }

    /// Asks the agent to end the VM.
    pub(super) fn ask_agent_to_shut_down(&mut self, grace_ms: u32) {
        if let Some(agent) = self.agent.clone() {
            self.set.spawn(agent_calls::shut_down(agent, grace_ms));
        }
    }

    /// The VMM is gone: ends what served it, and lets the tasks finish. Says how the VMM ended.
    pub(super) fn close(&mut self) -> String {
        let status = self.vmm.status();
        if let Some(backend) = &mut self.backend {
            backend.end();
        }
        self.close.tell();
        status
    }

    /// Waits for a task to end; `false` when none is left.
    pub(super) async fn join_next(&mut self) -> bool {
        self.set.join_next().await.is_some()
    }
}

/// What gives a guest the vsock behind `address`.
pub(super) fn vsock_of(address: &Address) -> VsockConfig {
    match address {
        Address::Kernel(cid) => VsockConfig::Kernel { cid: *cid },
        Address::Serial(_) => VsockConfig::Serial,
        Address::VhostUser(_) | Address::Monitor { .. } | Address::Unix(_) => VsockConfig::Backend,
    }
}

/// Waits until the guest knows who it is; `false` when it never will.
async fn is_told(mut told: watch::Receiver<bool>, mut closing: Closing) -> bool {
    tokio::select! {
        told = told.wait_for(|told| *told) => told.is_ok(),
        () = closing.told() => false,
    }
}

/// Connects clients to the guest until `closing`.
async fn connect_clients(dialer: UnixListener, backend: Backend, road: Road, mut closing: Closing) {
    let ready = || {
        let road = road.clone();
        async move { road.travel().await }
    };
    tokio::select! {
        () = dialer::serve(dialer, backend, ready) => {}
        () = closing.told() => {}
    }
}

/// What the serial log says of a boot that has ended. Without the boot's key nothing of it can be believed.
pub(super) fn read_console(vm: &VmDir, boot: &Boot) -> Result<Said, MonitorError> {
    let spec = vm.boot_spec()?;
    if spec.boot_id != boot.id {
        return Ok(Said::default());
    }
    let identity = Identity { boot: boot.id, key: MacKey::new(&spec.mac_key), before: None };
    let console =
        if spec.skip_guest_agent() { Some(ConsoleOutput::new(open_output(vm.spec())?)) } else { None };
    let mut serial = Serial::open(Path::new(name::SERIAL_LOG), vm.spec().logs, identity, console)?;
    Ok(serial.recover(boot.serial_rotations)?)
}

fn open_output(spec: &VmSpec) -> Result<OutputLog, LogError> {
    OutputLog::open(Path::new(name::OUTPUT_LOG), Path::new(OUTPUT_POSITION), spec.logs)
}
