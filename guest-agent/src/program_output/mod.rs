//! The program's output: kept for a host that may come, go and come back.
//!
//! ```text
//!            splice(2)                    pread(2)
//!  program ─► pipe ─────► memfd (tail of 1 MiB) ─────► op::output ─► monitor
//!                ▲ pump, one task a stream                 │
//!                └────────── flow: room, acknowledgements ─┘
//! ```
//!
//! [`flow`] decides and is pure, [`log`] does the system calls, and here the two meet. `docs/decisions/0003` says why
//! the bytes take this road.

pub mod flow;
mod log;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use firstlight_protocol::agent_config::{self, OutputDescriptors};
use firstlight_protocol::message::exec::MAX_CHUNK;
use firstlight_protocol::message::output::{OutputChunk, Position, Stream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::journal;
use flow::{Flow, PastEnd, Subscription, part};
use log::StreamLog;

/// How long a subscriber, or the first one before it comes, may keep the program waiting without acknowledging anything. After
/// that it counts as absent.
const STALL: Duration = Duration::from_secs(5);

/// How long to leave a stream alone whose bytes the kernel would not move, which it does only when memory is short.
const RETRY: Duration = Duration::from_millis(100);

/// One stream's descriptors are not what the configuration says.
#[derive(Debug, thiserror::Error)]
#[error("{}, pipe {} and log {}: {source}", .stream.name(), .descriptors.pipe, .descriptors.log)]
pub struct AdoptError {
    stream: Stream,
    descriptors: OutputDescriptors,
    source: io::Error,
}

/// Both streams.
#[derive(Debug)]
pub struct ProgramOutput {
    stdout: StreamLog,
    stderr: StreamLog,
    flow: watch::Sender<Flow>,
}

impl ProgramOutput {
    /// Takes over init's descriptors, where the agent before this one left off.
    ///
    /// # Errors
    /// [`AdoptError`] when they are not a pipe and a memfd each.
    pub fn adopt(descriptors: &agent_config::ProgramOutput) -> Result<ProgramOutput, AdoptError> {
        let adopt = |stream, descriptors| {
            StreamLog::adopt(&descriptors).map_err(|source| AdoptError { stream, descriptors, source })
        };
        let (stdout, stdout_end) = adopt(Stream::Stdout, descriptors.stdout)?;
        let (stderr, stderr_end) = adopt(Stream::Stderr, descriptors.stderr)?;
        let flow = Flow::new(Position { stdout: stdout_end, stderr: stderr_end });
        Ok(ProgramOutput { stdout, stderr, flow: watch::Sender::new(flow) })
    }

    /// Starts to move both streams, for as long as the agent lives.
    pub fn start(self: &Arc<Self>) {
        for stream in flow::STREAMS {
            let output = Arc::clone(self);
            tokio::spawn(async move { output.pump(stream).await });
        }
    }

    /// The state of the streams, as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Flow> {
        self.flow.subscribe()
    }

    /// Somebody reads from `from` on. See [`Flow::subscribe`].
    ///
    /// # Errors
    /// [`PastEnd`].
    pub fn subscribe(&self, from: Position) -> Result<Subscriber<'_>, PastEnd> {
        let mut subscribed = Ok(Subscription::default());
        self.flow.send_modify(|flow| subscribed = flow.subscribe(from));
        Ok(Subscriber { output: self, subscription: subscribed?, sent: from })
    }

    /// The host has written down everything before `position`.
    ///
    /// # Errors
    /// [`PastEnd`].
    pub fn acknowledge(&self, subscription: Subscription, position: Position) -> Result<(), PastEnd> {
        let mut acknowledged = Ok(());
        self.flow.send_modify(|flow| acknowledged = flow.acknowledge(subscription, position));
        acknowledged
    }

    fn log(&self, stream: Stream) -> &StreamLog {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    /// Moves one stream until its end.
    async fn pump(&self, stream: Stream) {
        let mut complained = false;
        loop {
            self.wait_for_room(stream).await;
            match self.move_some(stream).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    if !std::mem::replace(&mut complained, true) {
                        journal::say(&format_args!("keep the program's {}: {error}", stream.name()));
                    }
                    sleep(RETRY).await;
                }
            }
        }
        self.flow.send_modify(|flow| flow.finish(stream));
    }

    /// Waits while the program has to. A subscriber that makes it wait too long counts as absent.
    async fn wait_for_room(&self, stream: Stream) {
        let mut flow = self.flow.subscribe();
        let room = timeout(STALL, flow.wait_for(|flow| flow.room(stream) > 0)).await.is_ok();
        if !room {
            self.flow.send_modify(|flow| flow.stall(stream));
        }
    }

    /// Moves what the program wrote next; false at the stream's end.
    async fn move_some(&self, stream: Stream) -> io::Result<bool> {
        // The room is read when the bytes are there: a subscriber may have come while there were none.
        let room = || self.flow.borrow().room(stream);
        let Some(count) = self.log(stream).move_bytes(room).await? else { return Ok(true) };
        self.flow.send_modify(|flow| flow.moved(stream, count));
        let (end, oldest) = {
            let flow = self.flow.borrow();
            (part(flow.end(), stream), flow.oldest(stream))
        };
        self.log(stream).forget(oldest, end - count, end)?;
        Ok(count > 0)
    }
}

/// Somebody who reads the output. Dropping it tells the flow that they are gone.
#[derive(Debug)]
pub struct Subscriber<'a> {
    output: &'a ProgramOutput,
    subscription: Subscription,
    sent: Position,
}

/// What a subscriber meets next.
#[derive(Debug)]
pub enum Next {
    /// Bytes, and perhaps a gap before them.
    Chunk(OutputChunk),
    /// Both streams ended here, and everything is sent.
    End(Position),
    /// Another subscriber took over.
    Superseded,
}

impl Subscriber<'_> {
    /// The subscription, to acknowledge with.
    #[must_use]
    pub fn subscription(&self) -> Subscription {
        self.subscription
    }

    /// The subscriber has been told of [`Next::End`].
    pub fn told_end(&self) {
        self.output.flow.send_modify(|flow| flow.tell_end(self.subscription));
    }

    /// Waits for what comes next. `turn` says which stream goes first when both have bytes.
    ///
    /// # Errors
    /// As `pread(2)`.
    pub async fn next(&mut self, turn: Stream) -> io::Result<Next> {
        let mut watch = self.output.watch();
        let ready =
            |flow: &Flow| !flow.is_current(self.subscription) || flow.end() != self.sent || flow.has_ended();
        let flow = match watch.wait_for(ready).await {
            Ok(flow) => flow.clone(),
            Err(_) => return Ok(Next::Superseded),
        };
        if !flow.is_current(self.subscription) {
            return Ok(Next::Superseded);
        }
        if flow.end() == self.sent {
            return Ok(Next::End(self.sent));
        }
        let stream = if part(flow.end(), turn) > part(self.sent, turn) { turn } else { other(turn) };
        self.chunk(&flow, stream).map(Next::Chunk)
    }

    fn chunk(&mut self, flow: &Flow, stream: Stream) -> io::Result<OutputChunk> {
        let sequence = part(self.sent, stream).max(flow.oldest(stream));
        let length = (part(flow.end(), stream) - sequence).min(MAX_CHUNK as u64);
        let bytes = self.output.log(stream).read(sequence, usize::try_from(length).unwrap_or(0))?;
        match stream {
            Stream::Stdout => self.sent.stdout = sequence + length,
            Stream::Stderr => self.sent.stderr = sequence + length,
        }
        Ok(OutputChunk { stream, sequence, bytes })
    }
}

impl Drop for Subscriber<'_> {
    fn drop(&mut self) {
        self.output.flow.send_modify(|flow| flow.unsubscribe(self.subscription));
    }
}

/// The stream that is not this one.
#[must_use]
pub fn other(stream: Stream) -> Stream {
    match stream {
        Stream::Stdout => Stream::Stderr,
        Stream::Stderr => Stream::Stdout,
    }
}
