//! What all connections share.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use firstlight_protocol::agent_config::AgentConfig;
use firstlight_protocol::message::error::AgentError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::copies::{Copies, MAX_COPIES};
use crate::failure;
use crate::gate::Gate;
use crate::health::HealthChecks;
use crate::incarnation::Incarnation;
use crate::listen::Address;
use crate::op::forward::Waiting;
use crate::op::shutdown::PowerSwitch;
use crate::op::snapshot::Hold;
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

/// Who a restore made this guest, likewise.
const INCARNATION_FILE: &str = "incarnation";

/// The file systems that are frozen, likewise.
const FROZEN_FILE: &str = "frozen";

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
    /// Whether requests are served.
    pub gate: Arc<Gate>,
    /// For a guest that is held still; `None` for an agent outside a VM, where it would be somebody's machine.
    pub hold: Option<Arc<Hold>>,
    incarnation: Mutex<Incarnation>,
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
            Address::Vsock(_) | Address::Serial(_) => true,
            Address::Unix(_) => false,
        };
        let processes = Arc::new(Processes::new(in_vm).map_err(StartError::OpenFiles)?);
        let incarnation = Incarnation::resume(config, &events.with_file_name(INCARNATION_FILE));
        processes.set_environment(incarnation.environment.clone());
        let power = PowerSwitch::find(in_vm, output.is_some());
        Ok(Agent {
            gate: Arc::default(),
            hold: power.map(|_| Arc::new(Hold::recover(events.with_file_name(FROZEN_FILE)))),
            incarnation: Mutex::new(incarnation),
            health: HealthChecks::resume(Arc::clone(&processes), events.with_file_name(HEALTH_FILE)),
            copies: Copies::new(events.with_file_name(LEDGER)),
            events,
            sessions: Arc::new(Sessions::new(Arc::clone(&processes))),
            processes,
            batches: Semaphore::new(MAX_BATCHES),
            power,
            output,
            waiting: Arc::default(),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }

    /// Who this guest is.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes this guest somebody else: what it was called by before counts no more.
    ///
    /// # Errors
    /// When that cannot be written down; nothing has changed then.
    pub fn become_incarnation(&self, incarnation: Incarnation) -> Result<(), AgentError> {
        let path = self.events.with_file_name(INCARNATION_FILE);
        let written = incarnation.write(&path);
        written.map_err(|error| failure::system("write", Some(&path), &error))?;
        *self.incarnation.lock().unwrap_or_else(PoisonError::into_inner) = incarnation;
        Ok(())
    }

    /// A place for one more connection, or `None` when all are taken.
    #[must_use]
    pub fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.connections).try_acquire_owned().ok()
    }
}
