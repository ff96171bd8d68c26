//! From the host into a guest.

use std::future::Future;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{CHUNK, Entry, Extent, PushRequest, Shape, Totals};
use firstlight_protocol::message::file::Place;
use firstlight_socket::bulk::{BulkError, BulkWriter};
use firstlight_tree::{Error as TreeError, Frames, Outlet, Reading, Root, send, send_selected};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::line::HangUp;
use super::{CopyError, IDLE, Moved, Selection, Source, archive, on_host};
use crate::agent::{Awaited, Connection, Error, Receiver, Sender, expect};

/// How long the reason of a broken connection may take: it was sent before the connection broke.
const LAST_WORD_DEADLINE: Duration = Duration::from_secs(1);

/// Copies `source` to `to`. With `durable`, everything is on the guest's disk when this returns. Ends early when `stop`
/// does.
///
/// # Errors
/// [`CopyError`]. Files that are whole by then stay where they are if their directory was there before.
pub async fn push(
    mut connection: Connection,
    source: Source,
    to: &Place,
    durable: bool,
    stop: impl Future<Output = ()>,
) -> Result<Totals, CopyError> {
    let shape = match &source {
        Source::Path { path, .. } => Shape::of_source(path.as_os_str().as_encoded_bytes()),
        Source::Archive(_) => Shape::Archive,
        Source::Selected(_) => Shape::Contents,
    };
    let id = connection.fresh_id();
    connection.send(Kind::PushRequest, id, &PushRequest { place: to.clone(), shape, durable }).await?;
    let (socket, sender, receiver) = connection.lend()?;
    let hang_up = HangUp(Arc::new(socket));
    let mut writer = BulkWriter::new(Arc::clone(&hang_up.0));
    let sending = spawn_blocking(move || {
        let totals = read(source, &mut Frames::new(id, |batch| writer.write(batch)));
        writer.finish().map(|()| totals)
    });
    let stream = async {
        let mut conversation = Conversation { id, sender, receiver };
        let totals = conversation.listen_during(sending).await?;
        Ok(conversation.conclude(&totals).await?)
    };
    tokio::select! {
        done = stream => done,
        () = stop => Err(CopyError::Interrupted),
    }
}

/// What was sent, unless the connection broke first.
type Sent = Result<Result<Totals, CopyError>, BulkError>;

/// The connection while it belongs to the copy.
struct Conversation {
    id: u64,
    sender: Sender,
    receiver: Receiver,
}

impl Conversation {
    /// Waits until the thread has sent everything, unless the agent has something to say before: that can only be an error.
    async fn listen_during(&mut self, sending: JoinHandle<Sent>) -> Result<Totals, CopyError> {
        let refusal = refusal(&mut self.receiver, self.id);
        tokio::pin!(refusal);
        let sent = tokio::select! {
            error = &mut refusal => return Err(error.into()),
            sent = sending => sent,
        };
        // The thread is lost only when the runtime ends.
        match sent.map_err(|_| CopyError::Interrupted)? {
            Ok(totals) => totals,
            // A connection that the agent closed has its reason as the last frame.
            Err(broken) => {
                let reason = timeout(LAST_WORD_DEADLINE, refusal).await;
                Err(reason.unwrap_or_else(|_| broken.into()).into())
            }
        }
    }

    /// Says that this was all, and hears what came of it.
    async fn conclude(&mut self, totals: &Totals) -> Result<Totals, Error> {
        self.sender.send(Kind::CopyEnd, self.id, totals).await?;
        let done = timeout(IDLE, answer(&mut self.receiver, self.id, Kind::CopyDone)).await;
        Ok(codec::decode(&done.map_err(|_| Error::Timeout(Awaited::Answer))??)?)
    }
}

/// The payload of the agent's next frame, which has to be of kind `wanted`.
async fn answer(receiver: &mut Receiver, id: u64, wanted: Kind) -> Result<Vec<u8>, Error> {
    let (header, payload) = receiver.recv().await?;
    if header.id != id && header.kind != Kind::Error {
        return Err(Error::Protocol(format!("frame {:?} belongs to no copy", header.kind)));
    }
    expect(wanted, header.kind, payload)
}

/// Why the agent ends the copy before it has heard all of it, or why it is not heard any more.
async fn refusal(receiver: &mut Receiver, id: u64) -> Error {
    match answer(receiver, id, Kind::Error).await {
        Ok(payload) => codec::decode(&payload).map_or_else(Error::from, Error::Agent),
        Err(error) => error,
    }
}

/// Reads the source to its end. On a thread.
fn read<D>(source: Source, frames: &mut Frames<D>) -> Result<Totals, CopyError>
where
    D: FnMut(&mut Vec<u8>) -> bool,
{
    let totals = match source {
        Source::Path { path, follow } => {
            let place = on_host(&path)?;
            let root = Root::open(&place).map_err(CopyError::Host)?;
            send(&root, &place.path, follow, frames).map_err(CopyError::Host)?
        }
        Source::Archive(reader) => archive::read(reader, frames)?,
        Source::Selected(selection) => read_selected(selection, frames).map_err(CopyError::Host)?,
    };
    frames.flush().map_err(CopyError::Host)?;
    Ok(totals)
}

fn read_selected(selection: Selection, frames: &mut dyn Outlet) -> Result<Totals, TreeError> {
    let Selection { base, paths, owner, place, moved } = selection;
    frames.entry(&base)?;
    let mut outlet = Metered { frames, moved };
    send_selected(&Root::open(&place)?, &place.path, paths, owner, &mut outlet)
}

/// An outlet that tells of each piece of a file.
struct Metered<'a> {
    frames: &'a mut dyn Outlet,
    moved: Moved,
}

impl Outlet for Metered<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), TreeError> {
        self.frames.entry(entry)
    }

    fn extent(&mut self, file: BorrowedFd<'_>, extent: Extent) -> Result<(), Reading> {
        let mut offset = extent.offset;
        let end = extent.offset + extent.length;
        while offset < end {
            let length = (end - offset).min(CHUNK as u64);
            self.frames.extent(file, Extent { offset, length })?;
            (self.moved)(length);
            offset += length;
        }
        Ok(())
    }
}
