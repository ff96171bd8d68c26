//! Commands in the guest, apart from whoever asked for them.
//!
//! ```text
//! ExecRequest ─ command ─► std Command ─ spawn ─► Process { pipes, group, outcome }
//!                 │ identity (passwd, group)          │                     ▲
//!                 └ cgroup                            └─ supervise task ────┘ one per process, outlives its client
//! ```
//!
//! Each process leads a session and a process group of its own. Its supervisor waits for it through a pidfd, so the
//! agent never collects a child that is not its own.

mod cgroup;
mod collect;
mod command;
mod identity;
mod pipe;
mod supervise;

use std::io;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::exec::{ExecOutcome, ExecRequest};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{Semaphore, watch};

use crate::failure;
use crate::sys::{self, SpawnStep};
use cgroup::{Cgroup, Cgroups};
pub use collect::{Allowance, Limit};
pub use command::path_of;
pub use pipe::{InputPipe, OutputPipe};
pub use supervise::Group;
use supervise::{PidFd, Supervisor};

/// Commands at one time, those included whose client went away. Each costs the agent four descriptors and two buffers.
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
}

/// A command that runs.
#[derive(Debug)]
pub struct Process {
    /// Its process id, and its group's.
    pub pid: u32,
    /// Its standard input, when asked for.
    pub stdin: Option<InputPipe>,
    /// Its standard output.
    pub stdout: OutputPipe,
    /// Its standard error.
    pub stderr: OutputPipe,
    /// Its process group.
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
        })
    }

    /// Commands that run now.
    #[must_use]
    pub fn running(&self) -> u32 {
        u32::try_from(MAX_RUNNING - self.running.available_permits()).unwrap_or(u32::MAX)
    }

    /// Starts a command. Returns once its `execve` succeeded; its supervisor is then at work.
    ///
    /// # Errors
    /// What was being done, on which file, and why it failed. Nothing runs then.
    pub fn start(&self, request: &ExecRequest) -> Result<Process, AgentError> {
        let place = Arc::clone(&self.running).try_acquire_owned();
        let place =
            place.map_err(|_| failure::busy("spawn", format!("{MAX_RUNNING} commands are running")))?;
        let (mut command, mut setup) = command::build(request, self.open_files)?;
        let cgroup = self.cgroups.as_ref().and_then(Cgroups::create);
        setup.cgroup = cgroup.as_ref().and_then(Cgroup::entrance);
        sys::prepare_child(&mut command, setup);
        let child = command.spawn().map_err(|error| spawn_error(request, error))?;
        let pid = child.id();
        let handles = Handles::of(child).map_err(|error| failure::system("supervise", None, &error))?;
        let Handles { pidfd, stdin, stdout, stderr } = handles;
        let group = Arc::new(Group::new(pid));
        let (publish, outcome) = watch::channel(None);
        let supervisor = Supervisor {
            pidfd,
            group: Arc::clone(&group),
            timeout: request.timeout_ms.map(|timeout| Duration::from_millis(timeout.into())),
            kill_after: Duration::from_millis(request.kill_after_ms.into()),
            cgroup,
            outcome: publish,
            place,
        };
        tokio::spawn(supervisor.run());
        Ok(Process { pid, stdin, stdout, stderr, group, outcome })
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

/// A child's descriptors, fit for waiting on.
struct Handles {
    pidfd: PidFd,
    stdin: Option<InputPipe>,
    stdout: OutputPipe,
    stderr: OutputPipe,
}

impl Handles {
    /// Takes a child's descriptors. A child that cannot be watched is not left behind.
    fn of(mut child: Child) -> io::Result<Handles> {
        let handles = Handles::take(&mut child);
        if handles.is_err() {
            // It has only just started; SIGKILL makes this wait a short one.
            let _ = child.kill().and_then(|()| child.wait());
        }
        handles
    }

    fn take(child: &mut Child) -> io::Result<Handles> {
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        Ok(Handles {
            pidfd: PidFd::new(sys::open_pidfd(child.id())?)?,
            stdin: child.stdin.take().map(|pipe| InputPipe::new(pipe.into())).transpose()?,
            stdout: OutputPipe::new(child.stdout.take().ok_or_else(missing)?.into())?,
            stderr: OutputPipe::new(child.stderr.take().ok_or_else(missing)?.into())?,
        })
    }
}

fn spawn_error(request: &ExecRequest, error: io::Error) -> AgentError {
    let (step, error) = SpawnStep::unmark(error);
    match step {
        SpawnStep::Exec => failure::system("exec", request.argv.first().map(|name| path_of(name)), &error),
        SpawnStep::Cwd => failure::system("chdir", request.cwd.as_deref().map(path_of), &error),
        SpawnStep::Identity => failure::system("set user", request.user.as_deref().map(Path::new), &error),
    }
}
