//! Running a command for as long as its connection lives, or longer.
//!
//! ```text
//!  host ── Stdin, SignalRequest ──► feed ──► command ──► relay ── Stdout, Stderr ──► host
//!                                              └─ supervisor ── outcome ──► ExecEnd
//! ```
//!
//! * A host that reads slowly makes its own command wait, as any pipe does, and nobody else's.
//! * A host that goes away - or closes its sending side, which is the same - ends the command's standard input. The command itself
//!   goes on under its timeout, as with `docker exec`, and its output is thrown away.
//! * `ExecEnd` follows the command's own end. Of what background children write to its pipes, it waits for what is in
//!   them at that moment; the rest is thrown away.
//! * Signals queue behind standard input that the command has not read: both are on one connection.

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::exec::{
    ExecEnd, ExecOutcome, ExecRequest, ExecStarted, MAX_CHUNK, SignalRequest,
};
use tokio::sync::{Mutex, watch};

use crate::agent::Agent;
use crate::process::{Group, InputPipe, OutputPipe, Process};
use crate::session::SessionError;
use crate::wire::{Connection, FrameReader, FrameWriter, WireError};

/// Bytes read from a pipe in one go. Half a frame's limit costs little and halves what a command holds.
const BUFFER: usize = MAX_CHUNK / 2;

const SIGNALS: std::ops::RangeInclusive<u8> = 1..=64;

/// Runs the command. The connection serves further requests once it has ended.
///
/// # Errors
/// [`SessionError`] when the host went away or broke the protocol.
pub async fn run(
    agent: &Agent,
    connection: &mut Connection,
    id: u64,
    request: &ExecRequest,
) -> Result<(), SessionError> {
    let Connection { reader, writer } = connection;
    let process = match agent.processes.start(request) {
        Ok(process) => process,
        Err(error) => return end(writer, id, ExecOutcome::SpawnFailed(error)).await,
    };
    let Process { pid, stdin, stdout, stderr, group, outcome } = process;
    let started = codec::encode(&ExecStarted { pid })?;
    let streams = Streams { stdout: &stdout, stderr: &stderr };
    let ended = tokio::select! {
        outcome = async {
            writer.send(Kind::ExecStarted, id, &started).await?;
            streams.relay(writer, id, outcome).await
        } => outcome.map_err(SessionError::from),
        gone = feed(reader, id, stdin, &group) => match gone {
            Ok(()) => Ok(None),
            Err(error) => Err(error),
        },
    };
    agent.processes.discard(stdout);
    agent.processes.discard(stderr);
    match ended? {
        Some(outcome) => end(writer, id, outcome).await,
        None => Ok(()),
    }
}

async fn end(writer: &mut FrameWriter, id: u64, outcome: ExecOutcome) -> Result<(), SessionError> {
    Ok(writer.send(Kind::ExecEnd, id, &codec::encode(&ExecEnd { outcome })?).await?)
}

/// Passes on what the host sends, until it closes the connection.
async fn feed(
    reader: &mut FrameReader,
    id: u64,
    mut stdin: Option<InputPipe>,
    group: &Group,
) -> Result<(), SessionError> {
    while let Some(frame) = reader.next().await? {
        let kind = frame.header.kind;
        let unexpected = |expected| SessionError::Unexpected { kind, expected };
        if frame.header.id != id {
            return Err(unexpected("the connection belongs to a command under another id"));
        }
        if kind == Kind::Stdin && frame.payload.len() <= MAX_CHUNK {
            if let Some(pipe) = &stdin
                && pipe.write_all(&frame.payload).await.is_err()
            {
                // The command reads no more; the host learns from its end.
                stdin = None;
            }
        } else if kind == Kind::StdinEnd {
            stdin = None;
        } else if kind == Kind::SignalRequest {
            let SignalRequest { number } = codec::decode(&frame.payload)?;
            if !SIGNALS.contains(&number) {
                return Err(unexpected("signals are numbered 1 to 64"));
            }
            group.signal(number);
        } else {
            return Err(unexpected("a command takes Stdin of at most 64 KiB, StdinEnd and SignalRequest"));
        }
    }
    Ok(())
}

/// Where a command's output comes from.
struct Streams<'a> {
    stdout: &'a OutputPipe,
    stderr: &'a OutputPipe,
}

type Outcome = watch::Receiver<Option<ExecOutcome>>;

impl Streams<'_> {
    /// Sends the command's output, and gives its outcome once it has ended and the last of it is sent. `None` when its
    /// supervisor is gone.
    async fn relay(
        &self,
        writer: &mut FrameWriter,
        id: u64,
        outcome: Outcome,
    ) -> Result<Option<ExecOutcome>, WireError> {
        let writer = Mutex::new(writer);
        tokio::try_join!(
            relay_stream(self.stdout, Kind::Stdout, &writer, id, outcome.clone()),
            relay_stream(self.stderr, Kind::Stderr, &writer, id, outcome.clone()),
        )?;
        let mut outcome = outcome;
        Ok(outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone()))
    }
}

/// Sends one stream until it ends, or until the command has ended and what was in the pipe then is sent.
async fn relay_stream(
    pipe: &OutputPipe,
    kind: Kind,
    writer: &Mutex<&mut FrameWriter>,
    id: u64,
    mut outcome: Outcome,
) -> Result<(), WireError> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = tokio::select! {
            // The end comes first: a background child that never stops writing would keep it from being seen.
            biased;
            _ = outcome.wait_for(Option::is_some) => break,
            read = pipe.read(&mut buffer) => read,
        };
        let Some(count) = read.ok().filter(|count| *count > 0) else { return Ok(()) };
        writer.lock().await.send(kind, id, &buffer[..count]).await?;
    }
    let mut left = pipe.buffered().unwrap_or(0);
    while left > 0 {
        let read = pipe.read(&mut buffer[..left.min(BUFFER)]).await;
        let Some(count) = read.ok().filter(|count| *count > 0) else { return Ok(()) };
        left -= count;
        writer.lock().await.send(kind, id, &buffer[..count]).await?;
    }
    Ok(())
}
