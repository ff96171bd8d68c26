//! The driver of real VMs: as `run -d` makes them, with the pool's label on them.
//!
//! There are three ways to make one ([`Way`]): by a boot, from the [`Golden`] snapshot that was taken of the first, and as a
//! private clone of that, which sees its memory instead of getting a copy. [`VmDriver::bring_up`] chooses.
//!
//! A reset ends the VM and makes it anew under the same name: a new directory, new memory, new disks, a new machine id,
//! token and addresses. Nothing of the old VM but its name and number goes on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firstlight_protocol::boot_spec::Transport;
use firstlight_protocol::hex::BootId;
use firstlight_protocol::lifecycle::State;
use tokio::time::{Instant, timeout};

use super::driver::{Driver, Made, Way};
use super::golden::{Golden, Source, Tell, Turn};
use super::name::{vm_name, vm_number};
use super::policy::MemberId;
use crate::agent::{self, Connection as AgentConnection, Ping};
use crate::monitor::client::{self, ClientError, Connection, Update};
use crate::monitor::wire::Request;
use crate::snapshot::{self, Identity, Memory, Snapshot, SnapshotError};
use crate::vm::id::hostname;
use crate::vm::spec::NetworkSpec;
use crate::vm::store::StoreError;
use crate::vm::vm_dir::VmDirError;
use crate::vm::{Draft, Store, VmDir, VmId, VmSpec, VmView};

/// The label of a pool's VMs; its value is the pool's name.
pub const LABEL: &str = "firstlight.pool";

/// How long the agent of a running VM may take for a round trip. It listens already, so this is for a guest that is
/// stuck; it is less than the pool allows for a check.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);

/// How long a VMM that was killed may take to be gone.
const END_LIMIT: Duration = Duration::from_secs(60);

/// How often a monitor that is itself gone is asked for the VM's end. Each time a new one has adopted the VM.
const END_ATTEMPTS: u32 = 3;

/// What a round trip carries.
const PING: &[u8] = b"pool";

/// Prepares the spec of the VM of that name, and its files. May take long: it runs on a thread of its own.
pub type Blueprint = Arc<dyn Fn(&str) -> Result<(VmSpec, Draft), String> + Send + Sync>;

/// Makes the VMs of one pool.
pub struct VmDriver {
    store: Store,
    pool: String,
    blueprint: Blueprint,
    standby: Standby,
    start_limit: Duration,
    golden: Golden,
}

/// What VMs do that are ready and have no holder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standby {
    /// They run.
    #[default]
    Running,
    /// They have proved to be clean and stand still since, without taking processor time. Not for VMs behind a vsock backend,
    /// which may not survive that (decision 0024).
    Paused,
}

/// A piece of work on a VM failed.
#[derive(Debug, thiserror::Error)]
pub enum VmsError {
    /// Its spec or its files cannot be made.
    #[error("{0}")]
    Blueprint(String),
    /// It cannot be made, found or removed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its directory cannot be read.
    #[error(transparent)]
    VmDir(#[from] VmDirError),
    /// The golden snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// It cannot have an id.
    #[error("no random bytes: {0}")]
    NoRandom(std::io::Error),
    /// Its monitor cannot be spoken to.
    #[error(transparent)]
    Monitor(#[from] ClientError),
    /// Its agent cannot be spoken to.
    #[error(transparent)]
    Agent(#[from] agent::Error),
    /// It has no agent to speak to.
    #[error("the VM has no way to its agent")]
    NoAgent,
    /// The name belongs to a VM that is not the pool's.
    #[error("a VM called {0:?} exists that is not the pool's; remove it, or name the pool otherwise")]
    NotOurs(String),
    /// It ended before it was as it should be, or has ended since.
    #[error("the VM is {state}{reason}")]
    OtherState {
        /// Its state.
        state: &'static str,
        /// Why, with a colon before it, where that is known.
        reason: String,
    },
    /// It took too long to run, or to end.
    #[error("the VM was not {awaited} after {} s", .limit.as_secs())]
    TooSlow {
        /// What was waited for.
        awaited: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// The agent that answers is not that of the boot the VM was made with.
    #[error("the VM's agent answers for another boot than the pool made")]
    OtherBoot,
}

impl VmDriver {
    /// A driver for the VMs of `pool`, whose directory, in the file system of `store`, is `directory`. A VM that takes
    /// longer than `start_limit` to run counts as failed. Until somebody gets them, VMs are as `standby` says. `tell` hears of
    /// what is no VM's failure.
    ///
    /// # Errors
    /// [`VmsError::Snapshot`] when an earlier golden snapshot cannot be removed.
    pub fn new(
        store: Store,
        pool: &str,
        directory: &Path,
        blueprint: Blueprint,
        standby: Standby,
        start_limit: Duration,
        tell: Tell,
    ) -> Result<VmDriver, VmsError> {
        let golden = Golden::new(pool, directory, tell)?;
        Ok(VmDriver { store, pool: pool.to_owned(), blueprint, standby, start_limit, golden })
    }

    fn is_ours(&self, vm: &VmDir) -> bool {
        vm.spec().labels.get(LABEL) == Some(&self.pool)
    }

    /// The pool's VM with this number; `None` when there is none.
    fn find(&self, vm: MemberId) -> Result<Option<VmDir>, VmsError> {
        let name = vm_name(&self.pool, vm);
        match self.store.resolve(&name) {
            Ok(vm) if self.is_ours(&vm) => Ok(Some(vm)),
            Ok(_) => Err(VmsError::NotOurs(name)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn existing_vm(&self, vm: MemberId) -> Result<VmDir, VmsError> {
        let name = vm_name(&self.pool, vm);
        self.find(vm)?.ok_or_else(|| StoreError::NotFound { wanted: name }.into())
    }

    /// Prepares the VM's files on a thread of its own, since that may pack a whole root file system.
    async fn prepare(&self, vm: MemberId) -> Result<VmDir, VmsError> {
        let (blueprint, name, pool) =
            (Arc::clone(&self.blueprint), vm_name(&self.pool, vm), self.pool.clone());
        let prepared = tokio::task::spawn_blocking(move || {
            let (mut spec, draft) = blueprint(&name).map_err(VmsError::Blueprint)?;
            spec.labels.insert(LABEL.to_owned(), pool);
            Ok(draft.commit(&spec)?)
        });
        prepared.await.unwrap_or_else(|error| Err(VmsError::Blueprint(error.to_string())))
    }

    /// Starts the VM and waits until it runs.
    async fn start(&self, vm: &VmDir) -> Result<(), VmsError> {
        let running = async {
            client::start(vm).await?;
            bring(vm, State::Running, None).await
        };
        let limit = self.start_limit;
        timeout(limit, running).await.unwrap_or(Err(VmsError::TooSlow { awaited: "running", limit }))
    }

    /// Makes the VM of `source`: every way to make one is here. Where what the golden snapshot was taken with has changed, such
    /// as QEMU, the VM is booted and takes its place.
    async fn bring_up(&self, vm: MemberId, source: Source<'_>) -> Result<Made, VmsError> {
        let golden = match source {
            Source::Golden(golden) => golden,
            Source::Boot(turn) => return Ok(self.boot(vm, turn).await?.into()),
        };
        match self.restore(vm, &golden).await {
            Err(VmsError::Snapshot(mismatch @ SnapshotError::Mismatch { .. })) => {
                let way = self.boot(vm, self.golden.turn()).await?;
                Ok(Made { way, fell_back: Some(mismatch.to_string()) })
            }
            restored => Ok(restored?.into()),
        }
    }

    /// Makes the VM by a boot. With a turn it becomes the golden snapshot.
    async fn boot(&self, vm: MemberId, turn: Option<Turn<'_>>) -> Result<Way, VmsError> {
        let vm = self.prepare(vm).await?;
        let turn = turn.and_then(|turn| turn.unless_hopeless(&vm));
        self.start(&vm).await?;
        if let Some(turn) = turn {
            turn.save(&vm).await;
        }
        Ok(Way::Boot)
    }

    /// Makes the VM from the golden snapshot. One that no VM can be restored from is given up.
    async fn restore(&self, vm: MemberId, golden: &Snapshot) -> Result<Way, VmsError> {
        let restored = self.try_restore(vm, golden).await;
        if restored.as_ref().is_err_and(VmsError::is_the_snapshots) {
            self.golden.discard(golden);
        }
        restored
    }

    async fn try_restore(&self, vm: MemberId, golden: &Snapshot) -> Result<Way, VmsError> {
        let name = vm_name(&self.pool, vm);
        let spec = &golden.manifest().spec;
        let network = match &spec.network {
            // It can be one VM's only, and the VM that had it is gone.
            tap @ NetworkSpec::Tap { .. } => Some(tap.clone()),
            NetworkSpec::None | NetworkSpec::User | NetworkSpec::Copy { .. } => None,
        };
        let identity = Identity {
            id: VmId::random().map_err(VmsError::NoRandom)?,
            hostname: hostname(&name),
            network,
            environment: Vec::new(),
            labels: spec.labels.clone(),
            // A vsock backend would have to share the memory.
            memory: match spec.boot.transport {
                Transport::Serial => Memory::Mapped,
                Transport::Vsock => Memory::Copied,
            },
            paused: false,
            name,
        };
        let way = match identity.memory {
            Memory::Mapped => Way::Clone,
            Memory::Copied => Way::Restore,
        };
        let vm = snapshot::make(&self.store, golden, identity).await?;
        self.start(&vm).await.map(|()| way)
    }
}

impl VmsError {
    /// Whether it is the golden snapshot that no VM can be restored from.
    fn is_the_snapshots(&self) -> bool {
        matches!(
            self,
            VmsError::Monitor(ClientError::Damaged { .. })
                | VmsError::Snapshot(SnapshotError::Corrupt { .. } | SnapshotError::Mismatch { .. })
        )
    }
}

impl Driver for VmDriver {
    type Error = VmsError;

    async fn make(&self, vm: MemberId) -> Result<Made, VmsError> {
        let source = self.golden.source().await;
        let restoring = matches!(source, Source::Golden(_));
        match self.bring_up(vm, source).await {
            Err(error) if restoring => {
                self.destroy(vm).await?;
                let way = self.boot(vm, self.golden.turn()).await?;
                Ok(Made { way, fell_back: Some(error.to_string()) })
            }
            made => made,
        }
    }

    async fn reset(&self, vm: MemberId) -> Result<Made, VmsError> {
        self.destroy(vm).await?;
        let source = self.golden.source().await;
        self.bring_up(vm, source).await
    }

    async fn prove(&self, vm: MemberId) -> Result<(), VmsError> {
        let dir = self.existing_vm(vm)?;
        let view = dir.view()?;
        require(&view, &State::Running)?;
        // Its directory was made after its last holder was gone, and it was started once: anew, or from the snapshot of a
        // VM that had no holder yet. So no holder ever saw it.
        let golden = dir.spec().restored_from.as_ref().is_none_or(|from| from == self.golden.name());
        if !golden || view.boots != 1 || Some(answer(&dir).await?) != view.boot_id {
            return Err(VmsError::OtherBoot);
        }
        match self.standby {
            Standby::Running => Ok(()),
            Standby::Paused => bring(&dir, State::Paused, Some(Request::Pause)).await,
        }
    }

    async fn check(&self, vm: MemberId) -> Result<(), VmsError> {
        let vm = self.existing_vm(vm)?;
        if self.standby == Standby::Paused {
            bring(&vm, State::Running, Some(Request::Resume)).await?;
        }
        answer(&vm).await.map(drop)
    }

    async fn destroy(&self, vm: MemberId) -> Result<(), VmsError> {
        let Some(vm) = self.find(vm).or_else(not_ours_is_none)? else { return Ok(()) };
        for _ in 0..END_ATTEMPTS {
            if timeout(END_LIMIT, end(&vm))
                .await
                .map_err(|_| VmsError::TooSlow { awaited: "gone", limit: END_LIMIT })??
            {
                break;
            }
        }
        match self.store.remove_when_ended(&vm).await {
            // Somebody else removed it meanwhile, which is what was asked for.
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn existing(&self) -> Result<Vec<MemberId>, VmsError> {
        let vms = self.store.list()?;
        let ours = vms.iter().filter(|vm| self.is_ours(vm));
        Ok(ours.filter_map(|vm| vm_number(&self.pool, &vm.spec().name)).collect())
    }
}

/// A VM of somebody else's is not there as far as destruction goes: making it failed, and nothing is left of that.
fn not_ours_is_none(error: VmsError) -> Result<Option<VmDir>, VmsError> {
    if let VmsError::NotOurs(_) = error { Ok(None) } else { Err(error) }
}

/// Waits until the VM is in `state`, and asks for it where it is not.
async fn bring(vm: &VmDir, state: State, ask: Option<Request>) -> Result<(), VmsError> {
    let mut connection = Connection::open(vm).await?;
    connection.subscribe().await?;
    if let Some(request) = ask.filter(|_| connection.view().state != state) {
        connection.request(&request).await?;
    }
    while connection.view().state != state {
        if connection.view().state.is_final() || connection.next().await? == Update::End {
            break;
        }
    }
    require(&connection.view(), &state)
}

fn require(view: &VmView, state: &State) -> Result<(), VmsError> {
    if view.state == *state {
        return Ok(());
    }
    let reason = view.failure.as_ref().map(|failure| format!(": {}: {}", failure.stage, failure.reason));
    Err(VmsError::OtherState { state: view.state.name(), reason: reason.unwrap_or_default() })
}

/// A round trip to the agent; the boot it answers for. Over a connection of its own, not one that is kept: that the agent
/// takes new ones is what the next holder needs, and nothing of the pool's stays in a VM that somebody holds.
async fn answer(vm: &VmDir) -> Result<BootId, VmsError> {
    let deadline = Instant::now() + ANSWER_LIMIT;
    let (address, token) = vm.agent()?.ok_or(VmsError::NoAgent)?;
    let mut connection = AgentConnection::open(&address, &token, deadline).await?;
    let pong = connection.request(&Ping(PING.to_vec()), deadline).await?;
    if pong != PING {
        return Err(agent::Error::Protocol("a ping came back changed".into()).into());
    }
    Ok(connection.boot_id())
}

/// Ends the VM by force; `true` when it is gone, `false` when only its monitor is.
async fn end(vm: &VmDir) -> Result<bool, VmsError> {
    let mut connection = Connection::open(vm).await?;
    connection.subscribe().await?;
    if !connection.is_connected() {
        return Ok(true);
    }
    match connection.request(&Request::Kill).await {
        // It ended on its own while we asked.
        Ok(()) | Err(ClientError::Refused { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    while connection.next().await? != Update::End {}
    Ok(connection.view().timings.vmm_exited.is_some())
}
