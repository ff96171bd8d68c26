//! One command, from its start until nobody asks for it any more.
//!
//! After the command's own end, what its background children write is still taken until they have closed its streams, for
//! [`DRAIN_GRACE`] at most; what is in the pipes then belongs to the session, and the rest to nobody.

use std::sync::Arc;
use std::time::Duration;

use firstlight_protocol::message::exec::ExecOutcome;
use firstlight_protocol::message::output::Stream;
use firstlight_protocol::message::session::{self, MAX_SHOWN, SessionKey};
use tokio::sync::watch;
use tokio::time::timeout;

use super::input::Input;
use super::log::{Log, ReaderId};
use crate::clock;
use crate::process::{Group, OutputPipe, Process, Processes, Terminal};

/// How long the output of background children counts as the command's.
const DRAIN_GRACE: Duration = Duration::from_millis(100);

/// How long a reader that went away may take to come back. Its command waits for it meanwhile, and keeps its input.
const RETURN_GRACE: Duration = Duration::from_secs(5);

const SIGKILL: u8 = 9;

/// A command and its output.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) key: SessionKey,
    pid: u32,
    argv: Vec<Vec<u8>>,
    detached: bool,
    terminal: Option<Terminal>,
    group: Arc<Group>,
    pub(super) input: Input,
    pub(super) log: watch::Sender<Log>,
}

/// What is left of a [`Process`] once its session has the rest.
#[derive(Debug)]
pub(super) struct Running {
    stdout: OutputPipe,
    stderr: Option<OutputPipe>,
    outcome: watch::Receiver<Option<ExecOutcome>>,
}

impl Session {
    /// Takes a command over; what is left of it is for [`Session::run`].
    pub(super) fn new(
        key: SessionKey,
        argv: &[Vec<u8>],
        detached: bool,
        log: Log,
        process: Process,
    ) -> (Arc<Session>, Running) {
        let Process { pid, stdin, stdout, stderr, terminal, group, outcome } = process;
        let session = Session {
            key,
            pid,
            argv: shown(argv),
            detached,
            input: Input::start(stdin, terminal.is_some()),
            terminal,
            group,
            log: watch::Sender::new(log),
        };
        (Arc::new(session), Running { stdout, stderr, outcome })
    }

    /// Keeps the command's output until there is no more.
    pub(super) async fn run(&self, running: Running, processes: &Processes) {
        let Running { stdout, stderr, mut outcome } = running;
        let ended = {
            let streams = async {
                tokio::join!(self.take(&stdout, Stream::Stdout), async {
                    if let Some(stderr) = &stderr {
                        self.take(stderr, Stream::Stderr).await;
                    }
                })
            };
            tokio::pin!(streams);
            tokio::select! {
                ended = end(&mut outcome) => {
                    self.ends(&ended);
                    // What does not come in time is in the pipes, or is nobody's.
                    let _ = timeout(DRAIN_GRACE, streams).await;
                    Some(ended)
                }
                _ = &mut streams => None,
            }
        };
        let ended = match ended {
            Some(ended) => ended,
            None => end(&mut outcome).await,
        };
        self.ends(&ended);
        self.take_rest(&stdout, Stream::Stdout).await;
        processes.discard(stdout);
        if let Some(stderr) = stderr {
            self.take_rest(&stderr, Stream::Stderr).await;
            processes.discard(stderr);
        }
        self.log.send_modify(Log::finish);
    }

    /// The command has ended. Whoever waits for that need not wait for its output.
    fn ends(&self, outcome: &ExecOutcome) {
        self.input.close();
        self.log.send_modify(|log| log.end_with(outcome.clone()));
    }

    /// Takes a stream's bytes until its end.
    async fn take(&self, pipe: &OutputPipe, stream: Stream) {
        while self.take_some(pipe, stream, usize::MAX).await.is_some() {}
    }

    /// Takes what is in the pipe at this moment, however long its reader takes for that.
    async fn take_rest(&self, pipe: &OutputPipe, stream: Stream) {
        let mut left = pipe.buffered().unwrap_or(0);
        while left > 0 {
            match self.take_some(pipe, stream, left).await {
                Some(count) => left -= count,
                None => return,
            }
        }
    }

    /// Waits for room and for bytes, and takes at most `most`. `None` at the stream's end.
    async fn take_some(&self, pipe: &OutputPipe, stream: Stream, most: usize) -> Option<usize> {
        // The channel lives as long as the session.
        let _ = self.log.subscribe().wait_for(Log::has_room).await;
        let read = pipe.read_with(|pipe| {
            let mut result = Ok(None);
            // A pipe that turns out to be empty has changed nothing that anybody waits for.
            self.log.send_if_modified(|log| {
                result = log.fill(stream, |free| {
                    let length = free.len().min(most);
                    pipe.read_now(&mut free[..length])
                });
                result.as_ref().is_ok_and(Option::is_some)
            });
            result
        });
        match read.await {
            Ok(Some(0)) | Err(_) => None,
            // The other stream was faster and took the room.
            Ok(None) => Some(0),
            Ok(Some(count)) => Some(count),
        }
    }

    /// Signals the command, or kills all of it.
    pub(crate) fn signal(&self, number: u8) {
        if number == SIGKILL {
            return self.group.kill();
        }
        self.group.signal(number);
        if let Some(terminal) = &self.terminal {
            terminal.signal_foreground(number);
        }
    }

    /// Its terminal.
    pub(crate) fn terminal(&self) -> Option<&Terminal> {
        self.terminal.as_ref()
    }

    /// Which session it is.
    pub(crate) fn key(&self) -> SessionKey {
        self.key
    }

    /// The command's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it takes input.
    pub(crate) fn takes_input(&self) -> bool {
        self.input.is_open()
    }

    /// Waits until the command has ended, and says how. Bytes of output may still be to come.
    pub(crate) async fn ended(&self) -> session::SessionEnd {
        let mut log = self.log.subscribe();
        let ended = log.wait_for(|log| log.outcome().is_some()).await;
        let (sequence, outcome) = ended.map_or((0, None), |log| (log.end(), log.outcome().cloned()));
        session::SessionEnd { sequence, outcome: outcome.unwrap_or_else(nobody_knows) }
    }

    /// A reader went away, perhaps to come back.
    pub(super) fn leave(self: &Arc<Session>, reader: ReaderId) {
        self.log.send_modify(|log| log.detach(reader));
        let session = Arc::clone(self);
        tokio::spawn(async move {
            let mut log = session.log.subscribe();
            let over = log.wait_for(Log::is_finished);
            // Nothing waits for the reader once the command is over.
            if timeout(RETURN_GRACE, over).await.is_ok_and(|over| over.is_ok()) {
                return;
            }
            session.give_up(reader);
        });
    }

    /// A reader has not come back.
    fn give_up(&self, reader: ReaderId) {
        self.log.send_modify(|log| log.give_up(reader));
        let is_left_alone = self.log.borrow().readers() == 0;
        if is_left_alone && !self.detached && self.terminal.is_none() {
            self.input.end();
        }
    }

    /// Whether it was started without a reader.
    pub(super) fn is_detached(&self) -> bool {
        self.detached
    }

    /// What there is to say of it.
    pub(super) fn describe(&self) -> session::Session {
        let log = self.log.borrow();
        let now = clock::boottime_ns().unwrap_or(self.key.started_ns);
        session::Session {
            key: self.key,
            pid: self.pid,
            argv: self.argv.clone(),
            age_ns: now.saturating_sub(self.key.started_ns),
            detached: self.detached,
            terminal: self.terminal.is_some(),
            readers: log.readers(),
            oldest: log.oldest(),
            sequence: log.end(),
            outcome: log.outcome().cloned(),
        }
    }
}

/// Waits for the outcome that the command's supervisor publishes.
async fn end(outcome: &mut watch::Receiver<Option<ExecOutcome>>) -> ExecOutcome {
    let ended = outcome.wait_for(Option::is_some).await;
    ended.ok().and_then(|outcome| outcome.clone()).unwrap_or_else(nobody_knows)
}

/// For a supervisor that ended without an outcome, which none does.
fn nobody_knows() -> ExecOutcome {
    ExecOutcome::SpawnFailed(crate::failure::busy("supervise", "its supervisor ended"))
}

/// The beginning of a command line.
fn shown(argv: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut left = MAX_SHOWN;
    let mut shown = Vec::new();
    for argument in argv {
        if left == 0 {
            break;
        }
        let length = argument.len().min(left);
        shown.push(argument[..length].to_vec());
        // An argument costs something even if it is empty.
        left = left.saturating_sub(length.max(1));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_shown_up_to_a_length() {
        let long = vec![b"sh".to_vec(), vec![b'x'; MAX_SHOWN], b"never".to_vec()];
        let shown = shown(&long);
        assert_eq!(shown, [b"sh".to_vec(), vec![b'x'; MAX_SHOWN - 2]]);
    }
}
