//! From a request to a child that has executed its program.
//!
//! `execve` waits for the file system that the program is on, and with it whoever spawns. Each spawn therefore has a
//! thread to itself: a file system that hangs holds up the commands on it and nothing else.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Child;

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::exec::ExecRequest;
use firstlight_protocol::message::session::Window;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::command::{self, path_of};
use super::pipe::{InputPipe, OutputPipe};
use super::supervise::PidFd;
use super::terminal::{self, Terminal};
use crate::failure;
use crate::sys::{self, SpawnStep};

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
    pub(super) terminal: Option<OwnedFd>,
    pub(super) place: OwnedSemaphorePermit,
}

/// Spawns on a thread of its own.
pub(super) async fn on_a_thread(order: Order) -> Result<Spawned, AgentError> {
    let (sender, receiver) = oneshot::channel();
    let builder = std::thread::Builder::new().name("spawn".to_owned()).stack_size(STACK_BYTES);
    // Nobody waits any more if the answer cannot be sent; dropping it ends the child.
    let spawned = builder.spawn(move || drop(sender.send(spawn(order))));
    spawned.map_err(|error| failure::system("spawn", None, &error))?;
    let lost = |_| failure::busy("spawn", "the spawning thread ended");
    receiver.await.map_err(lost)?
}

fn spawn(order: Order) -> Result<Spawned, AgentError> {
    let Order { request, open_files, cgroup, window, place } = order;
    let (mut command, mut setup) = command::build(&request, open_files)?;
    setup.cgroup = cgroup;
    let terminal = match window {
        Some(window) => Some(terminal::give(&mut command, &mut setup, window)?),
        None => None,
    };
    sys::prepare_child(&mut command, setup);
    let child = command.spawn().map_err(|error| spawn_error(&request, error))?;
    Ok(Spawned { child: Foundling(Some(child)), terminal, place })
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

    /// Takes the child's descriptors, and leaves it to whoever waits for them.
    pub(super) fn handles(mut self, terminal: Option<OwnedFd>) -> io::Result<Handles> {
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let child = self.0.as_mut().ok_or_else(missing)?;
        let pidfd = PidFd::new(sys::open_pidfd(child.id())?)?;
        let handles = match terminal {
            Some(master) => Handles {
                pidfd,
                stdin: Some(InputPipe::new(master.try_clone()?)?),
                stdout: OutputPipe::new(master.try_clone()?)?,
                stderr: None,
                terminal: Some(Terminal::new(master)),
            },
            None => Handles {
                pidfd,
                stdin: child.stdin.take().map(|pipe| InputPipe::new(pipe.into())).transpose()?,
                stdout: OutputPipe::new(child.stdout.take().ok_or_else(missing)?.into())?,
                stderr: Some(OutputPipe::new(child.stderr.take().ok_or_else(missing)?.into())?),
                terminal: None,
            },
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
