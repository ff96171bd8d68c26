//! Commands in the guest that outlive whoever asked for them.
//!
//! ```text
//!             ┌ Input ──► window ──┐
//!  start  ──► │                    ├─ outgoing task ──► agent     Stdin, StdinEnd, SessionAck
//!  attach     └ Output ──► acks ───┘
//!                  ▲───────────────────────────────── agent     SessionChunk, SessionInputTaken, SessionEnd
//! ```
//!
//! What [`Output::next`] has handed out counts as read once it is called again, and only then may the agent forget it. A
//! reader whose connection breaks therefore attaches again at [`Output::position`] and finds every byte, as long as it
//! does so within the agent's patience of a few seconds.

mod outgoing;
mod output;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::exec::ExecOutcome;
use firstlight_protocol::message::session::{
    SessionAttachRequest, SessionAttached, SessionEnd, SessionStartRequest, SessionStarted,
};
use tokio::sync::watch;

use super::connection::{Connection, expect};
use super::error::Error;
pub use outgoing::Input;
pub use output::{Event, Output};

/// Starts a command and reads it from its first byte, on a connection that from now on belongs to it. As long as the guest's
/// file systems take: a caller that gives up drops the future, and with it the connection.
///
/// # Errors
/// [`Error::Agent`] when the command could not be started, [`Error::TooLarge`] for arguments over a frame's limit, or
/// [`Error::Lost`].
pub async fn start(
    mut connection: Connection,
    request: &SessionStartRequest,
) -> Result<(SessionStarted, Input, Output), Error> {
    let (id, started) = ask_to_start(&mut connection, request).await?;
    let (input, output) = streams(connection, id, 0, 0);
    Ok((started, input, output))
}

/// Starts a command that nobody reads for now.
///
/// # Errors
/// As [`start`].
pub async fn start_detached(
    connection: &mut Connection,
    request: &SessionStartRequest,
) -> Result<SessionStarted, Error> {
    let request = SessionStartRequest { detached: true, ..request.clone() };
    ask_to_start(connection, &request).await.map(|(_, started)| started)
}

async fn ask_to_start(
    connection: &mut Connection,
    request: &SessionStartRequest,
) -> Result<(u64, SessionStarted), Error> {
    let id = connection.fresh_id();
    connection.send(Kind::SessionStartRequest, id, request).await?;
    let (kind, payload) = answer(connection, id).await?;
    if kind != Kind::SessionEnd {
        return Ok((id, codec::decode(&expect(Kind::SessionStarted, kind, payload)?)?));
    }
    let SessionEnd { outcome, .. } = codec::decode(&payload)?;
    Err(match outcome {
        ExecOutcome::SpawnFailed(error) => Error::Agent(error),
        ExecOutcome::Exited(_) | ExecOutcome::TimedOut(_) | ExecOutcome::OutOfMemory(_) => {
            Error::Protocol("a session ended before it started".into())
        }
    })
}

/// Attaches to a session, on a connection that from now on belongs to it.
///
/// # Errors
/// [`Error::Agent`] when there is no such session or position, or [`Error::Lost`].
pub async fn attach(
    mut connection: Connection,
    request: &SessionAttachRequest,
) -> Result<(SessionAttached, Input, Output), Error> {
    let id = connection.fresh_id();
    connection.send(Kind::SessionAttachRequest, id, request).await?;
    let (kind, payload) = answer(&mut connection, id).await?;
    let attached: SessionAttached = codec::decode(&expect(Kind::SessionAttached, kind, payload)?)?;
    let (input, output) = streams(connection, id, request.from.unwrap_or(0), attached.input);
    Ok((attached, input, output))
}

async fn answer(connection: &mut Connection, id: u64) -> Result<(Kind, Vec<u8>), Error> {
    let (header, payload) = connection.recv().await?;
    if header.id != id {
        return Err(Error::Protocol(format!("frame {:?} answers no request", header.kind)));
    }
    Ok((header.kind, payload))
}

/// Both ends of a session whose output goes on at `position` and of whose input `taken` bytes have come already.
fn streams(connection: Connection, id: u64, position: u64, taken: u64) -> (Input, Output) {
    let (sender, receiver) = connection.split();
    let (tell_taken, hear_taken) = watch::channel(taken);
    let (input, outgoing) = outgoing::start(sender, id, taken, hear_taken);
    (input, Output::new(receiver, id, position, tell_taken, outgoing))
}
