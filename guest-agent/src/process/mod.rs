//! Commands in the guest, apart from whoever asked for them.
//!
//! ```text
//! ExecRequest ─ spawn (a thread each) ─► Process { pipes or terminal, group, outcome }
//!                 │ command: identity, environment        │                     ▲
//!                 │ cgroup                                └─ supervise task ────┘ one per process, outlives its client
//!                 └ terminal
//! ```
//!
//! Each process leads a session and a process group of its own. Its supervisor waits for it through a pidfd, so the
//! agent never collects a child that is not its own.

mod cgroup;
mod collect;
mod command;
mod identity;
mod pipe;
mod spawn;
mod stdio;
mod supervise;
mod terminal;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::exec::{ExecOutcome, ExecRequest};
use firstlight_protocol::message::session::Window;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{Semaphore, watch};

use crate::failure;
use crate::incarnation::Environment;
use cgroup::{Cgroup, Cgroups};
pub use collect::{Allowance, Limit};
pub use command::path_of;
pub use pipe::{InputPipe, OutputPipe};
use spawn::{Handles, Order, Spawned};
pub use supervise::Group;
use supervise::Supervisor;
pub use terminal::Terminal;

/// Commands at one time, those included whose client went away and those still being spawned. Each costs the agent four
/// descriptors, and a thread until its `execve`.
const MAX_RUNNING: usize = 256;

/// Pipes of ended commands that background children still write to. Theirs are read and thrown away, as a terminal
/// nobody looks at would; those over the limit are closed, and their writers get SIGPIPE.
const MAX_LEFTOVER_PIPES: usize = 256;

/// Starts commands and counts them.
#[derive(Debug)]
pub struct Processes {
    running: Arc<Semaphore>,
    leftovers: Arc<Semaphore>,
    cgroups: Option<Cgroups>,
    open_files: (u64, u64),
    /// What every command starts with.
    environment: Mutex<Environment>,
}

/// A command that runs.
#[derive(Debug)]
pub struct Process {
    /// Its process id, and its group's.
    pub pid: u32,
    /// Its standard input, when asked for.
    pub stdin: Option<InputPipe>,
    /// Its standard output, or all its terminal shows.
    pub stdout: OutputPipe,
    /// Its standard error, where it has no terminal.
    pub stderr: Option<OutputPipe>,
    /// Its terminal, where it has one.
    pub terminal: Option<Terminal>,
    /// All that it started.
    pub group: Arc<Group>,
    /// How it ended, once it has.
    pub outcome: watch::Receiver<Option<ExecOutcome>>,
}

impl Processes {
    /// Raises the agent's own limit of open files, which commands do not inherit, and looks for cgroups if `in_vm`:
    /// outside a VM they belong to somebody else.
    ///
    /// # Errors
    /// As `getrlimit(2)` and `setrlimit(2)`.
    pub fn new(in_vm: bool) -> io::Result<Processes> {
        let open_files = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, open_files.1, open_files.1)?;
        Ok(Processes {
            running: Arc::new(Semaphore::new(MAX_RUNNING)),
            leftovers: Arc::new(Semaphore::new(MAX_LEFTOVER_PIPES)),
            cgroups: if in_vm { Cgroups::open(Path::new(cgroup::MOUNT_POINT)) } else { None },
            open_files,
            environment: Mutex::default(),
        })
    }

    /// Every command from now on starts with these variables, before its own.
    pub fn set_environment(&self, environment: Environment) {
        *self.environment.lock().unwrap_or_else(PoisonError::into_inner) = environment;
    }

    /// Commands that run now.
    #[must_use]
    pub fn running(&self) -> u32 {
        u32::try_from(MAX_RUNNING - self.running.available_permits()).unwrap_or(u32::MAX)
    }

    /// Starts a command, on a terminal of that size if one is given. Returns once its `execve` succeeded; its supervisor is
    /// then at work. Giving up waiting leaves nothing running.
    ///
    /// # Errors
    /// What was being done, on which file, and why it failed. Nothing runs then.
    pub async fn start(&self, request: &ExecRequest, window: Option<Window>) -> Result<Process, AgentError> {
        let place = Arc::clone(&self.running).try_acquire_owned();
        let place =
            place.map_err(|_| failure::busy("spawn", format!("{MAX_RUNNING} commands are running")))?;
        let mut equipped = request.clone();
        let environment = self.environment.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The request's own come after them, and count.
        equipped.env.splice(0..0, environment);
        let cgroup = self.cgroups.as_ref().and_then(Cgroups::create);
        let order = Order {
            request: equipped,
            open_files: self.open_files,
            cgroup: cgroup.as_ref().and_then(Cgroup::entrance),
            window,
            place,
        };
        let Spawned { child, streams, place } = spawn::on_a_thread(order).await?;
        let pid = child.id();
        let handles = child.handles(streams).map_err(|error| failure::system("supervise", None, &error))?;
        let Handles { pidfd, stdin, stdout, stderr, terminal } = handles;
        let group = Arc::new(Group::new(pid, cgroup));
        let (publish, outcome) = watch::channel(None);
        let supervisor = Supervisor {
            pidfd,
            group: Arc::clone(&group),
            timeout: request.timeout_ms.map(|timeout| Duration::from_millis(timeout.into())),
            kill_after: Duration::from_millis(request.kill_after_ms.into()),
            outcome: publish,
            place,
        };
        tokio::spawn(supervisor.run());
        Ok(Process { pid, stdin, stdout, stderr, terminal, group, outcome })
    }

    /// Reads what still comes from a pipe, and throws it away, until its last writer is gone.
    pub fn discard(&self, pipe: OutputPipe) {
        if let Ok(place) = Arc::clone(&self.leftovers).try_acquire_owned() {
            tokio::spawn(async move {
                pipe.discard().await;
                drop(place);
            });
        }
    }
}
