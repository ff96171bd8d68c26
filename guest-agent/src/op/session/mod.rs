//! Sessions: starting a command, attaching to one, and all that is asked about them.
//!
//! ```text
//!  host ── Stdin, SessionAck ──► hear ──► Input, Log
//!  host ◄── SessionChunk, SessionInputTaken, SessionEnd ── tell ◄── Reader
//! ```
//!
//! * A host that reads slowly makes its own command wait, as any pipe does, and nobody else's; nothing is lost.
//! * A host that goes away ends nothing. For a few seconds its command waits for it to come back; then the output's oldest
//!   bytes go, as of any session that nobody reads, and the input ends, unless it is a terminal's or a detached one's.
//! * Nothing that a host sends waits behind anything else: input is queued within a window, and signals come on a connection of
//!   their own.

mod control;

pub use control::{list, resize, signal, wait};

use std::sync::atomic::{AtomicBool, Ordering};

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::exec::{ExecOutcome, MAX_CHUNK};
use firstlight_protocol::message::session::{
    SessionAck, SessionAttachRequest, SessionAttached, SessionEnd, SessionStartRequest, SessionStarted,
};

use crate::agent::Agent;
use crate::session::SessionError;
use crate::sessions::{Acknowledger, Next, Reader};
use crate::wire::{Connection, FrameReader, FrameWriter};

/// Starts a command, and stays with it unless it is detached. The connection serves further requests after that.
///
/// # Errors
/// [`SessionError`] when the host went away or broke the protocol.
pub async fn start(
    agent: &Agent,
    connection: &mut Connection,
    id: u64,
    request: &SessionStartRequest,
) -> Result<(), SessionError> {
    let (session, reader) = match agent.sessions.start(request).await {
        Ok(started) => started,
        Err(error) => {
            let end = SessionEnd { sequence: 0, outcome: ExecOutcome::SpawnFailed(error) };
            return Ok(connection.writer.send(Kind::SessionEnd, id, &codec::encode(&end)?).await?);
        }
    };
    let started = SessionStarted { key: session.key(), pid: session.pid() };
    connection.writer.send(Kind::SessionStarted, id, &codec::encode(&started)?).await?;
    match reader {
        Some(reader) => follow(connection, id, reader).await,
        None => Ok(()),
    }
}

/// Attaches to a session, until its end or the host's.
///
/// # Errors
/// [`SessionError`] when the host went away or broke the protocol.
pub async fn attach(
    agent: &Agent,
    connection: &mut Connection,
    id: u64,
    request: &SessionAttachRequest,
) -> Result<(), SessionError> {
    let reader = match agent.sessions.attach(request) {
        Ok(reader) => reader,
        Err(error) => return refuse(&mut connection.writer, id, &error).await,
    };
    let session = reader.session();
    let attached = SessionAttached {
        key: session.key(),
        input: reader.input_received(),
        takes_input: session.takes_input(),
        terminal: session.terminal().is_some(),
    };
    connection.writer.send(Kind::SessionAttached, id, &codec::encode(&attached)?).await?;
    follow(connection, id, reader).await
}

async fn refuse(writer: &mut FrameWriter, id: u64, error: &AgentError) -> Result<(), SessionError> {
    Ok(writer.send(Kind::Error, id, &codec::encode(error)?).await?)
}

async fn follow(connection: &mut Connection, id: u64, reader: Reader) -> Result<(), SessionError> {
    let host = reader.acknowledger();
    let told_end = AtomicBool::new(false);
    tokio::select! {
        failed = tell(&mut connection.writer, id, reader, &told_end) => failed,
        done = hear(&mut connection.reader, id, &host, &told_end) => done,
    }
}

/// Tells the host what the session does. Ends only when it cannot.
async fn tell(
    writer: &mut FrameWriter,
    id: u64,
    mut reader: Reader,
    told_end: &AtomicBool,
) -> Result<(), SessionError> {
    let mut buffer = Vec::new();
    loop {
        match reader.next(&mut buffer).await? {
            Next::Chunk => writer.send(Kind::SessionChunk, id, &buffer).await?,
            Next::InputTaken(taken) => {
                writer.send(Kind::SessionInputTaken, id, &codec::encode(&taken)?).await?;
            }
            Next::End(end) => {
                writer.send(Kind::SessionEnd, id, &codec::encode(&end)?).await?;
                told_end.store(true, Ordering::Relaxed);
                // The host's acknowledgement, or its end, is heard.
                return std::future::pending().await;
            }
        }
    }
}

/// Takes what the host sends, until it knows the session's end or closes the connection.
async fn hear(
    frames: &mut FrameReader,
    id: u64,
    host: &Acknowledger,
    told_end: &AtomicBool,
) -> Result<(), SessionError> {
    while let Some(frame) = frames.next().await? {
        let kind = frame.header.kind;
        let unexpected = |expected| Err(SessionError::Unexpected { kind, expected });
        if frame.header.id != id {
            return unexpected("the connection belongs to a session under another id");
        }
        if kind == Kind::Stdin && frame.payload.len() <= MAX_CHUNK {
            host.write(&frame.payload).await;
        } else if kind == Kind::StdinEnd {
            host.end_input();
        } else if kind == Kind::SessionAck {
            let SessionAck { through, end } = codec::decode(&frame.payload)?;
            if host.acknowledge(through).is_err() || (end && !told_end.load(Ordering::Relaxed)) {
                return unexpected("nothing can be acknowledged that was not sent");
            }
            if end {
                host.acknowledge_end();
                return Ok(());
            }
        } else {
            return unexpected("a session takes Stdin of at most 64 KiB, StdinEnd and SessionAck");
        }
    }
    Ok(())
}
