//! Copying files in bulk, either way.
//!
//! ```text
//!  pull   firstlight_tree::send ──► Frames ──► BulkWriter ──► socket    on a thread, which has the connection meanwhile
//!  push   socket ──► BulkReader ──► firstlight_tree::Sink               likewise
//! ```
//!
//! What a push has not shown under its name yet is gone when the host leaves before the end, when the agent ends, and when
//! one that was killed is started again: `docs/decisions/0010-file-copy.md`.

use std::time::Duration;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{PullRequest, PushRequest, Totals};
use firstlight_protocol::message::error::AgentError;
use firstlight_socket::bulk::{BulkError, BulkReader, BulkWriter, Piece};
use firstlight_tree::{Error, Frames, Ledger, Root, Sink, send};
use tokio::time::timeout;

use crate::agent::Agent;
use crate::failure;
use crate::session::SessionError;
use crate::sys;
use crate::wire::{Connection, Socket, WireError};

/// How long a host may take to notice that its push has failed. Until then what it sends is read and forgotten.
const NOTICE_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes that a host may send ahead of what was read, as the kernel has it: `VIRTIO_VSOCK_DEFAULT_BUF_SIZE`.
const WINDOW: u64 = 256 * 1024;

/// The same for a copy that has the vsock to itself, so that the host need not stop whenever a file is written. All that comes in goes through one queue, so what one connection has in it
/// delays the others: beside other copies the window stays as it is.
const WIDE_WINDOW: u64 = 512 * 1024;

/// Sends a file or directory to the host. The connection serves further requests after it.
///
/// # Errors
/// [`SessionError`] when the host went away.
pub async fn pull(
    agent: &Agent,
    connection: &mut Connection,
    id: u64,
    request: PullRequest,
) -> Result<(), SessionError> {
    let Some(place) = agent.copies.admit() else {
        return Ok(connection.writer.send(Kind::Error, id, &codec::encode(&too_many())?).await?);
    };
    let sent = place.run(connection, move |socket| {
        let mut writer = BulkWriter::new(socket);
        let sent = read(&request, &mut Frames::new(id, |batch| writer.write(batch)));
        writer.finish().map(|()| sent).map_err(WireError::from)
    });
    let (kind, payload) = match sent.await?? {
        Ok(totals) => (Kind::CopyEnd, codec::encode(&totals)?),
        Err(error) => (Kind::Error, codec::encode(&AgentError::from(error))?),
    };
    Ok(connection.writer.send(kind, id, &payload).await?)
}

/// Sends everything there is. On a thread.
fn read<D>(request: &PullRequest, frames: &mut Frames<D>) -> Result<Totals, Error>
where
    D: FnMut(&mut Vec<u8>) -> bool,
{
    let PullRequest { place, follow } = request;
    let sent = send(&Root::open(place)?, &place.path, *follow, frames);
    // What was collected before an error is sent as well: whole frames, so that the error can follow.
    frames.flush()?;
    sent
}

/// Takes a file or directory from the host. After a success the connection serves further requests.
///
/// # Errors
/// [`SessionError`] when the host went away or broke the protocol, or the copy failed.
pub async fn push(
    agent: &Agent,
    connection: &mut Connection,
    id: u64,
    request: PushRequest,
) -> Result<(), SessionError> {
    let Some(place) = agent.copies.admit() else { return abandon(connection, id, &too_many()).await };
    let (ledger, alone) = (place.ledger.clone(), place.alone);
    let received = place.run(connection, move |socket| {
        // Other sockets have no window, and without a wide one the copy is only slower.
        let _ = alone.then(|| sys::set_vsock_window(&socket, WIDE_WINDOW));
        let totals = receive(BulkReader::new(&socket, id), request, ledger)?;
        // Only now that the host waits: what it has under way and does not fit in a window is dropped.
        let _ = alone.then(|| sys::set_vsock_window(&socket, WINDOW));
        Ok(totals)
    });
    match received.await? {
        Ok(totals) => Ok(connection.writer.send(Kind::CopyDone, id, &codec::encode(&totals)?).await?),
        Err(Push::Refused(error)) => abandon(connection, id, &error.into()).await,
        Err(Push::Session(error)) => Err(error),
    }
}

/// Why a push ended early.
enum Push {
    /// What came cannot be written.
    Refused(Error),
    /// Nothing more can come.
    Session(SessionError),
}

impl From<Error> for Push {
    fn from(error: Error) -> Push {
        Push::Refused(error)
    }
}

impl From<BulkError> for Push {
    fn from(error: BulkError) -> Push {
        Push::Session(WireError::from(error).into())
    }
}

/// Takes everything that comes. On a thread.
fn receive(mut reader: BulkReader<&Socket>, request: PushRequest, ledger: Ledger) -> Result<Totals, Push> {
    let PushRequest { place, shape, durable } = request;
    let mut sink = Sink::new(&place, shape, durable)?.with_ledger(ledger);
    let unexpected = |kind, expected| Push::Session(SessionError::Unexpected { kind, expected });
    let announced = loop {
        match reader.piece()? {
            Piece::Entry(entry) => sink.entry(entry)?,
            Piece::Data(bytes) => sink.data(bytes)?,
            Piece::End(totals) => break totals,
            Piece::Other(header) => {
                return Err(unexpected(
                    header.kind,
                    "a copy takes CopyEntry, CopyData and CopyEnd under its own id",
                ));
            }
        }
    };
    if !reader.is_empty() {
        return Err(unexpected(Kind::CopyEnd, "a host that copies waits for the answer"));
    }
    let totals = sink.finish()?;
    let lost_attributes = totals.lost_attributes.saturating_add(announced.lost_attributes);
    Ok(Totals { special: announced.special, lost_attributes, ..totals })
}

/// Ends a copy that cannot go on although its host still sends.
async fn abandon(connection: &mut Connection, id: u64, error: &AgentError) -> Result<(), SessionError> {
    connection.writer.send(Kind::Error, id, &codec::encode(error)?).await?;
    // A host that takes longer finds the connection closed.
    let _ = timeout(NOTICE_DEADLINE, connection.reader.discard()).await;
    Err(SessionError::Abandoned)
}

pub(super) fn too_many() -> AgentError {
    failure::busy("copy", "as many copies run as the agent allows; wait for one of them")
}
