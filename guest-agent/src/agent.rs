//! What all connections share.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use firstlight_protocol::agent_config::AgentConfig;
use firstlight_protocol::hex::{BootId, Secret};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::copies::{Copies, MAX_COPIES};
use crate::health::HealthChecks;
use crate::listen::Address;
use crate::op::forward::Waiting;
use crate::op::shutdown::PowerSwitch;
use crate::process::Processes;
use crate::program_output::{AdoptError, ProgramOutput};
use crate::sessions::Sessions;

/// Connections past their hello at one time. One more is refused with `Busy`: each may hold a frame and a few
/// descriptors, and the agent must not eat the VM it serves.
const MAX_CONNECTIONS: usize = 256;

/// Batches under way at one time. Each may hold a frame of answers besides its commands, so one more is refused.
const MAX_BATCHES: usize = 16;

/// The health checks' file, beside the sentinels.
const HEALTH_FILE: &str = "health";

/// The directory of temporary names, beside the sentinels too: what it says is true as long as the VM runs.
const LEDGER: &str = "copies";

/// Threads for what waits for the disk: one for each copy, and some that are left for short operations whatever the copies
/// do. When those are busy too, the next operation waits for one.
pub const MAX_BLOCKING_THREADS: usize = MAX_COPIES + 8;

/// The agent cannot serve this boot.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Init's descriptors for the program's output are not what the configuration says.
    #[error("take over the program's output: {0}")]
    Output(#[from] AdoptError),
    /// The limit of open files could not be raised.
    #[error("raise the limit of open files: {0}")]
    OpenFiles(io::Error),
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    /// The boot it serves.
    pub boot_id: BootId,
    /// What a host has to show.
    pub token: Secret,
    /// Where init appends this boot's sentinels.
    pub events: PathBuf,
    /// The commands it runs.
    pub processes: Arc<Processes>,
    /// Those of them whose output it keeps.
    pub(crate) sessions: Arc<Sessions>,
    /// The health checks it runs.
    pub health: HealthChecks,
    /// Places for batches.
    pub batches: Semaphore,
    /// The program's output, where init keeps any.
    pub output: Option<Arc<ProgramOutput>>,
    /// Connections on their way to the host.
    pub waiting: Arc<Waiting>,
    /// How to end the VM, if there is one to end.
    pub power: Option<PowerSwitch>,
    /// The copies under way.
    pub copies: Copies,
    connections: Arc<Semaphore>,
}

impl Agent {
    /// Takes over everything init handed down.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn new(config: AgentConfig, address: &Address, events: PathBuf) -> Result<Agent, StartError> {
        let output = config.program_output.as_ref().map(ProgramOutput::adopt).transpose()?.map(Arc::new);
        let in_vm = match address {
            Address::Vsock(_) => true,
            Address::Unix(_) => false,
        };
        let processes = Arc::new(Processes::new(in_vm).map_err(StartError::OpenFiles)?);
        Ok(Agent {
            boot_id: config.boot_id,
            token: config.token,
            health: HealthChecks::resume(Arc::clone(&processes), events.with_file_name(HEALTH_FILE)),
            copies: Copies::new(events.with_file_name(LEDGER)),
            events,
            sessions: Arc::new(Sessions::new(Arc::clone(&processes))),
            processes,
            batches: Semaphore::new(MAX_BATCHES),
            power: PowerSwitch::find(in_vm, output.is_some()),
            output,
            waiting: Arc::default(),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }

    /// A place for one more connection, or `None` when all are taken.
    #[must_use]
    pub fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }
}
