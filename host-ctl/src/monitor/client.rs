//! How a command reaches a VM's monitor, or starts one.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::time::{Duration, Instant, timeout_at};

use super::Task;
use super::wire::{MAX_MESSAGE, Message, Ready, Request};
use crate::backoff::{Attempt, jitter, retry};
use crate::boot::initramfs::{self, InitramfsError};
use crate::boot::kernel;
use crate::driver::qemu::memory::patience;
use crate::snapshot;
use crate::socket_path::ShortPath;
use crate::vm::view::Liveness;
use crate::vm::vm_dir::{VmDirError, name};
use crate::vm::{Fold, Record, VmDir, VmView};

/// How long a new monitor may take until its VMM answers, besides what loading a memory takes.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// How long a monitor may take to answer a request. It answers before it carries it out.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// A monitor could not be reached or started.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The new monitor said why it cannot do its work.
    #[error("cannot start VM {vm:?}: {reason}")]
    Failed {
        /// The VM.
        vm: String,
        /// Why, in words.
        reason: String,
    },
    /// The snapshot that the VM was to begin with is not what was saved.
    #[error("cannot restore VM {vm:?}: {reason}")]
    Damaged {
        /// The VM.
        vm: String,
        /// Why, in words.
        reason: String,
    },
    /// The monitor ended without a word.
    #[error("the monitor of VM {vm:?} ended without a word; see {}", .log.display())]
    Died {
        /// The VM.
        vm: String,
        /// Its log.
        log: PathBuf,
    },
    /// The monitor refused a request.
    #[error("VM {vm:?}: {reason}")]
    Refused {
        /// The VM.
        vm: String,
        /// Why, in words.
        reason: String,
    },
    /// A deadline passed.
    #[error("timed out waiting for the monitor of VM {vm:?} to {what}")]
    Timeout {
        /// The VM.
        vm: String,
        /// What it was to do.
        what: &'static str,
    },
    /// The monitor said what no monitor says.
    #[error("the monitor of VM {vm:?} is of another version: {reason}")]
    Protocol {
        /// The VM.
        vm: String,
        /// What was wrong with it.
        reason: String,
    },
    /// The VM's directory cannot be read.
    #[error(transparent)]
    VmDir(#[from] VmDirError),
    /// A system call failed.
    #[error("VM {vm:?}: cannot {operation}: {source}")]
    Io {
        /// The VM.
        vm: String,
        /// What was being done.
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// Starts the VM: a monitor that boots it. Returns once the VMM runs; a VM that runs already is left alone.
///
/// # Errors
/// [`ClientError::Failed`] with the reason; [`ClientError::Timeout`] when somebody holds the VM who neither runs it nor lets go.
pub async fn start(vm: &VmDir) -> Result<(), ClientError> {
    // Made here rather than in the monitor, which is to stay small. What is restored needs no initramfs.
    let memory = vm.file(snapshot::name::RESTORE).join(snapshot::name::MEMORY).metadata();
    let restored = memory.is_ok();
    let made = kernel::bootable(vm.spec()).map_err(InitramfsError::from);
    made.and_then(|_| if restored { Ok(()) } else { initramfs::shared(vm.spec()).map(drop) })
        .map_err(|error| ClientError::Failed { vm: vm.spec().name.clone(), reason: error.to_string() })?;
    let loading = memory.map_or(Duration::ZERO, |memory| patience(memory.len()));
    let limit = READY_DEADLINE + loading;
    // Whoever holds the VM is a monitor that watches it, or one that was killed a moment ago: then it does not run, which the
    // first look finds out and records.
    for _ in 0..2 {
        if spawn(vm, Task::Boot, limit).await? != Ready::Taken || connect(vm).await?.is_some() {
            return Ok(());
        }
    }
    Err(ClientError::Timeout { vm: vm.spec().name.clone(), what: "let go of it" })
}

/// Makes sure that a VM which runs has a monitor, and that the record of one which does not is complete. Costs two
/// looks at `/proc` and the lock where there is nothing to do.
///
/// # Errors
/// [`ClientError`] when a new monitor is needed and cannot be started.
pub async fn ensure(vm: &VmDir) -> Result<(), ClientError> {
    let open = vm.fold()?.boot().is_some_and(|boot| !boot.is_closed());
    if open && !vm.has_monitor()? {
        spawn(vm, Task::Adopt, READY_DEADLINE).await?;
    }
    Ok(())
}

/// A stream to the VM's monitor, which is started where the VM runs without; `None` when the VM does not run.
///
/// A monitor that somebody else has just started holds the VM and listens only when it has adopted it; one that was killed
/// may still hold it for a moment. A VM that runs is not taken for one that does not because of either.
async fn connect(vm: &VmDir) -> Result<Option<UnixStream>, ClientError> {
    retry(Instant::now() + ANSWER_DEADLINE, jitter, async || match try_connect(vm).await {
        Ok(None) if vm.fold().is_ok_and(|fold| fold.boot().is_some_and(|boot| !boot.is_closed())) => {
            Attempt::NotYet(ClientError::Timeout { vm: vm.spec().name.clone(), what: "listen" })
        }
        tried => Attempt::Done(tried),
    })
    .await?
}

async fn try_connect(vm: &VmDir) -> Result<Option<UnixStream>, ClientError> {
    ensure(vm).await?;
    let path = ShortPath::of(&vm.file(name::MONITOR_SOCKET));
    let connected = match path {
        Ok(path) => UnixStream::connect(&path).await,
        Err(error) => Err(error),
    };
    match connected {
        Ok(stream) => Ok(Some(stream)),
        // The VM does not run, or ended since: the journal has it all.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(None)
        }
        Err(source) => Err(io_error(vm, "connect to its monitor", source)),
    }
}

/// Starts a monitor and waits for its first words, at most for `limit`.
async fn spawn(vm: &VmDir, task: Task, limit: Duration) -> Result<Ready, ClientError> {
    let failed = |operation| move |source| io_error(vm, operation, source);
    let boot_dir = vm.file(name::BOOT);
    std::fs::create_dir_all(&boot_dir).map_err(failed("make its boot directory"))?;
    let log = boot_dir.join("monitor.log");
    let open = std::fs::File::options().create(true).append(true).open(&log);
    let stderr = open.map_err(failed("open the monitor's log"))?;
    let executable = std::env::current_exe().map_err(failed("find our own executable"))?;
    let (reader, writer) = io::pipe().map_err(failed("make a pipe"))?;
    let mut command = Command::new(executable);
    command.arg("monitor").args((task == Task::Boot).then_some("--boot")).arg(vm.path());
    command.stdin(Stdio::null()).stdout(writer).stderr(stderr);
    crate::sys::in_own_session(&mut command);
    // Whoever lives long enough to see its end, as a pool does, has tokio reap it.
    let mut command = tokio::process::Command::from(command);
    let mut child = command.spawn().map_err(failed("start its monitor"))?;
    // The command holds the pipe's write end, and its end has to be seen.
    drop(command);
    let mut words = String::new();
    let mut reader =
        pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(failed("read its monitor"))?;
    match timeout_at(Instant::now() + limit, reader.read_to_string(&mut words)).await {
        Ok(read) => read.map(drop).map_err(failed("read its monitor"))?,
        Err(_) => return Err(ClientError::Timeout { vm: vm.spec().name.clone(), what: "start" }),
    }
    let name = || vm.spec().name.clone();
    match serde_json::from_str(&words) {
        Ok(Ready::Failed { reason, damaged: true }) => Err(ClientError::Damaged { vm: name(), reason }),
        Ok(Ready::Failed { reason, damaged: false }) => Err(ClientError::Failed { vm: name(), reason }),
        Ok(ready) => {
            if ready != Ready::Watching {
                // It ends by itself now; a zombie would stay for as long as this command runs.
                child
                    .wait()
                    .await
                    .map(drop)
                    .map_err(|source| io_error(vm, "wait for its monitor", source))?;
            }
            Ok(ready)
        }
        Err(_) if words.is_empty() => Err(ClientError::Died { vm: name(), log }),
        Err(error) => Err(ClientError::Protocol { vm: name(), reason: error.to_string() }),
    }
}

fn io_error(vm: &VmDir, operation: &'static str, source: io::Error) -> ClientError {
    ClientError::Io { vm: vm.spec().name.clone(), operation, source }
}

/// A connection to a VM's monitor, or to nobody when the VM does not run.
pub struct Connection {
    vm: VmDir,
    stream: Option<(BufReader<OwnedReadHalf>, OwnedWriteHalf)>,
    fold: Fold,
    /// Messages that came while an answer was waited for.
    waiting: VecDeque<Message>,
    /// What was read of the next message.
    line: Vec<u8>,
    subscribed: bool,
}

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Update {
    /// Something was recorded; the view has it already.
    Record {
        /// The record.
        record: Record,
        /// Whether it is on disk yet.
        persisted: bool,
    },
    /// The output log has grown or was rotated.
    Output,
    /// What was said to be unpersisted is on disk now.
    Persisted,
    /// Nothing more will come: the VMM is gone, or was never started.
    End,
}

impl Connection {
    /// Connects to the VM's monitor; starts one where the VM runs without.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open(vm: &VmDir) -> Result<Connection, ClientError> {
        let stream = connect(vm).await?.map(UnixStream::into_split);
        let stream = stream.map(|(reader, writer)| (BufReader::new(reader), writer));
        let fold = vm.fold()?;
        Ok(Connection {
            vm: vm.clone(),
            stream,
            fold,
            waiting: VecDeque::new(),
            line: Vec::new(),
            subscribed: false,
        })
    }

    /// Whether a monitor is at the other end.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// The VM as of the last [`Update`].
    #[must_use]
    pub fn view(&self) -> VmView {
        let liveness = if self.stream.is_some() { Liveness::Alive } else { self.vm.liveness(&self.fold) };
        VmView::new(self.vm.spec(), &self.fold, liveness)
    }

    /// Asks for every update. On return [`Connection::view`] is up to date, and [`Connection::next`] gives what
    /// happens after it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn subscribe(&mut self) -> Result<(), ClientError> {
        if self.subscribed || self.stream.is_none() {
            return Ok(());
        }
        self.subscribed = true;
        self.send(&Request::Subscribe).await?;
        while let Some(message) = self.receive_by(Instant::now() + ANSWER_DEADLINE).await? {
            match message {
                Message::Synced => break,
                Message::Record { record, .. } => self.fold.apply(&record),
                Message::Persisted | Message::Output | Message::Accepted | Message::Refused { .. } => {}
            }
        }
        Ok(())
    }

    /// The next thing that happens; waits for it. Safe to drop and call again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn next(&mut self) -> Result<Update, ClientError> {
        loop {
            let message = match self.waiting.pop_front() {
                Some(message) => Some(message),
                None => self.receive().await?,
            };
            return Ok(match message {
                Some(Message::Record { record, persisted }) => {
                    self.fold.apply(&record);
                    Update::Record { record, persisted }
                }
                Some(Message::Output) => Update::Output,
                Some(Message::Persisted) => Update::Persisted,
                Some(Message::Synced | Message::Accepted | Message::Refused { .. }) => continue,
                None => Update::End,
            });
        }
    }

    /// Asks the monitor to do something; returns when it has agreed, not when it is done.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the reason, also when no monitor is there because the VM does not run.
    pub async fn request(&mut self, request: &Request) -> Result<(), ClientError> {
        self.send(request).await?;
        let deadline = Instant::now() + ANSWER_DEADLINE;
        let refused = |vm: &VmDir, reason| ClientError::Refused { vm: vm.spec().name.clone(), reason };
        loop {
            match self.receive_by(deadline).await? {
                Some(Message::Accepted) => return Ok(()),
                Some(Message::Refused { reason }) => return Err(refused(&self.vm, reason)),
                Some(message) => self.waiting.push_back(message),
                None => return Err(refused(&self.vm, "it does not run".into())),
            }
        }
    }

    async fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let Some((_, writer)) = &mut self.stream else { return Ok(()) };
        let mut line = serde_json::to_vec(request)
            .map_err(|error| io_error(&self.vm, "encode a request", error.into()))?;
        line.push(b'\n');
        match writer.write_all(&line).await {
            // It ended this instant; the reader sees the end.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|source| io_error(&self.vm, "write to its monitor", source)),
        }
    }

    async fn receive_by(&mut self, deadline: Instant) -> Result<Option<Message>, ClientError> {
        let vm = self.vm.spec().name.clone();
        let received = timeout_at(deadline, self.receive()).await;
        received.map_err(|_| ClientError::Timeout { vm, what: "answer" })?
    }

    /// The next message; `None` when the monitor has ended. Safe to drop and call again: what was read of a line so
    /// far stays in `line`.
    async fn receive(&mut self) -> Result<Option<Message>, ClientError> {
        let Some((reader, _)) = &mut self.stream else { return Ok(None) };
        let room = (MAX_MESSAGE - self.line.len()) as u64;
        let read = reader.take(room).read_until(b'\n', &mut self.line).await;
        match read {
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
                return Err(io_error(&self.vm, "read from its monitor", error));
            }
            Ok(_) | Err(_) => {}
        }
        if self.line.last() != Some(&b'\n') {
            if self.line.len() < MAX_MESSAGE {
                // It ended, or was killed in the middle of a line: what counts is on disk.
                self.stream = None;
                self.fold = self.vm.fold()?;
                return Ok(None);
            }
            return Err(self.protocol_error(format!("a message of more than {MAX_MESSAGE} bytes")));
        }
        let message = serde_json::from_slice(&self.line);
        self.line.clear();
        message.map(Some).map_err(|error| self.protocol_error(error.to_string()))
    }

    fn protocol_error(&self, reason: String) -> ClientError {
        ClientError::Protocol { vm: self.vm.spec().name.clone(), reason }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
