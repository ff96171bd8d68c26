//! From a request to a child that has executed its program.
//!
//! `execve` waits for the file system that the program is on, and with it whoever spawns. Each spawn therefore has a
//! thread to itself. And it has a descriptor table to itself: a child that hangs between `fork` and `execve` holds copies of
//! whatever its parent had open, and must not keep other commands' pipes from ending. That takes a second thread, because the
//! first has to wake the runtime, through a descriptor of the table that all others share.
//!
//! ```text
//!  on_a_thread ─► prepare: account files, pipes ────────────► close the command's ends ───► Spawned
//!                    └─ fork_apart: own table, copies of the ends ─┘─ fork ··· execve ──┘
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::exec::ExecRequest;
use firstlight_protocol::message::session::Window;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::command::{self, path_of};
use super::pipe::{InputPipe, OutputPipe};
use super::stdio::{self, Ours, Theirs};
use super::supervise::PidFd;
use super::terminal::Terminal;
use crate::failure;
use crate::sys::{self, ChildSetup, SpawnStep};

/// Of the threads that spawn. `fork` and an account file are all they do.
const STACK_BYTES: usize = 128 * 1024;

/// All it takes to spawn a command.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) request: ExecRequest,
    pub(super) open_files: (u64, u64),
    pub(super) cgroup: Option<OwnedFd>,
    pub(super) window: Option<Window>,
    /// Held for as long as the spawn hangs, if it does.
    pub(super) place: OwnedSemaphorePermit,
}

/// A command that executes.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) child: Foundling,
    pub(super) streams: Ours,
    pub(super) place: OwnedSemaphorePermit,
}

/// Spawns on a thread of its own.
pub(super) async fn on_a_thread(order: Order) -> Result<Spawned, AgentError> {
    let (tell, told) = oneshot::channel();
    // Nobody waits any more if it cannot be told; dropping it ends the child.
    thread(move || drop(tell.send(prepare(order))))?;
    told.await.unwrap_or_else(|_| Err(lost()))
}

fn thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, AgentError> {
    let builder = Builder::new().name("spawn".to_owned()).stack_size(STACK_BYTES);
    builder.spawn(work).map_err(|error| failure::system("spawn", None, &error))
}

fn lost() -> AgentError {
    failure::busy("spawn", "the spawning thread ended")
}

/// The descriptors that the child needs: its streams, and its cgroup's entrance.
type Ends = (Theirs, Option<OwnedFd>);

fn prepare(order: Order) -> Result<Spawned, AgentError> {
    let Order { request, open_files, cgroup, window, place } = order;
    let (command, mut setup) = command::build(&request, open_files)?;
    let (streams, theirs) = stdio::open(request.stdin, window, &mut setup)?;
    let (hand_back, handed_back) = mpsc::channel();
    let forking = thread(move || fork_apart(command, setup, (theirs, cgroup), &hand_back))?;
    // Closed here, in the table that all share, as soon as the other thread has copies.
    drop(handed_back.recv());
    let child = forking.join().map_err(|_| lost())?.map_err(|error| spawn_error(&request, error))?;
    Ok(Spawned { child: Foundling(Some(child)), streams, place })
}

/// Forks with a descriptor table in which there is nothing but what the child needs.
fn fork_apart(
    mut command: Command,
    mut setup: ChildSetup,
    ends: Ends,
    hand_back: &mpsc::Sender<Ends>,
) -> io::Result<Child> {
    let (theirs, cgroup) = &ends;
    let kept: Vec<BorrowedFd<'_>> = theirs.descriptors().chain(cgroup.iter().map(AsFd::as_fd)).collect();
    sys::separate_descriptors(&kept)?;
    let copied = theirs.give(&mut command);
    let entrance = cgroup.as_ref().map(OwnedFd::try_clone).transpose();
    // From here on the originals are numbers to this thread, and nothing may be dropped but the copies.
    let _ = hand_back.send(ends);
    copied?;
    setup.cgroup = entrance?;
    sys::prepare_child(&mut command, setup);
    command.spawn()
}

fn spawn_error(request: &ExecRequest, error: io::Error) -> AgentError {
    let (step, error) = SpawnStep::unmark(error);
    match step {
        SpawnStep::Exec => failure::system("exec", request.argv.first().map(|name| path_of(name)), &error),
        SpawnStep::Cwd => failure::system("chdir", request.cwd.as_deref().map(path_of), &error),
        SpawnStep::Identity => failure::system("set user", request.user.as_deref().map(Path::new), &error),
    }
}

/// A child that nobody supervises yet. Dropped as such, it is not left behind.
#[derive(Debug)]
pub(super) struct Foundling(Option<Child>);

/// A child's descriptors, fit for waiting on.
#[derive(Debug)]
pub(super) struct Handles {
    pub(super) pidfd: PidFd,
    pub(super) stdin: Option<InputPipe>,
    pub(super) stdout: OutputPipe,
    pub(super) stderr: Option<OutputPipe>,
    pub(super) terminal: Option<Terminal>,
}

impl Foundling {
    pub(super) fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// Makes all of it fit for waiting on, and leaves the child to whoever waits.
    pub(super) fn handles(mut self, streams: Ours) -> io::Result<Handles> {
        let handles = Handles {
            pidfd: PidFd::new(sys::open_pidfd(self.id())?)?,
            stdin: streams.stdin.map(InputPipe::new).transpose()?,
            stdout: OutputPipe::new(streams.stdout)?,
            stderr: streams.stderr.map(OutputPipe::new).transpose()?,
            terminal: streams.terminal.map(Terminal::new),
        };
        self.0 = None;
        Ok(handles)
    }
}

impl Drop for Foundling {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It has only just started; SIGKILL makes this wait a short one.
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}
