//! From the host into a guest.

use std::future::Future;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use firstlight_protocol::codec;
use firstlight_protocol::frame::{HEADER_LEN, Header};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{CHUNK, Entry, Extent, PushRequest, Shape, Totals};
use firstlight_protocol::message::file::Place;
use firstlight_tree::{Errno, Error as TreeError, Outlet, Reading, Root, send, send_selected};
use rustix::io::pread;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::{BATCH, CopyError, IDLE, Moved, QUEUE, Selection, Source, archive, joined, place_on_host};
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
    let (sender, receiver) = connection.split();
    let (queue, frames) = mpsc::channel(QUEUE);
    let reading = spawn_blocking(move || read(source, Frames::new(id, queue)));
    let stream = async {
        let mut conversation = Conversation { id, sender, receiver };
        conversation.stream(frames).await?;
        // Everything is sent, so the thread has ended or is about to.
        let totals = joined(reading.await)?;
        Ok(conversation.conclude(&totals).await?)
    };
    tokio::select! {
        done = stream => done,
        () = stop => Err(CopyError::Interrupted),
    }
}

/// The connection while it belongs to the copy.
struct Conversation {
    id: u64,
    sender: Sender,
    receiver: Receiver,
}

impl Conversation {
    /// Sends frames to the last, unless the agent has something to say before: that can only be an error.
    async fn stream(&mut self, mut frames: mpsc::Receiver<Vec<u8>>) -> Result<(), Error> {
        let Conversation { id, sender, receiver } = self;
        let answer = answer(receiver, *id, Kind::Error);
        let sent = async {
            while let Some(batch) = frames.recv().await {
                let sent = timeout(IDLE, sender.send_encoded(&batch)).await;
                sent.map_err(|_| Error::Timeout(Awaited::Copy))??;
            }
            Ok::<(), Error>(())
        };
        tokio::pin!(answer);
        let sent = tokio::select! {
            early = &mut answer => return Err(unexpected(early)),
            sent = sent => sent,
        };
        if sent.is_ok() {
            return Ok(());
        }
        // A connection that the agent closed has its reason as the last frame.
        let reason = timeout(LAST_WORD_DEADLINE, answer).await;
        Err(unexpected(reason.unwrap_or(Err(Error::Timeout(Awaited::Copy)))))
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

/// What an answer means that comes before anything was asked.
fn unexpected(answer: Result<Vec<u8>, Error>) -> Error {
    let error = answer.and_then(|payload| {
        Err::<(), Error>(codec::decode::<firstlight_protocol::message::error::AgentError>(&payload)?.into())
    });
    error.err().unwrap_or_else(|| Error::Protocol("it answered before the end".into()))
}

/// Reads the source to its end. On a thread.
fn read(source: Source, mut frames: Frames) -> Result<Totals, CopyError> {
    let totals = match source {
        Source::Path { path, follow } => {
            let place = place_on_host(&path)?;
            let root = Root::open(&place).map_err(CopyError::Host)?;
            send(&root, &place.path, follow, &mut frames).map_err(CopyError::Host)?
        }
        Source::Archive(reader) => archive::read(reader, &mut frames)?,
        Source::Selected(selection) => read_selected(selection, &mut frames).map_err(CopyError::Host)?,
    };
    frames.flush().map_err(CopyError::Host)?;
    Ok(totals)
}

fn read_selected(selection: Selection, frames: &mut Frames) -> Result<Totals, TreeError> {
    let Selection { base, paths, owner, place, moved } = selection;
    frames.entry(&base)?;
    let mut outlet = Metered { frames, moved };
    send_selected(&Root::open(&place)?, &place.path, paths, owner, &mut outlet)
}

/// Frames that tell of each piece of a file.
struct Metered<'a> {
    frames: &'a mut Frames,
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

/// Entries and bytes as frames, collected into batches for the queue.
pub(super) struct Frames {
    id: u64,
    queue: mpsc::Sender<Vec<u8>>,
    batch: Vec<u8>,
}

impl Frames {
    /// Frames under this id, for this queue.
    pub(super) fn new(id: u64, queue: mpsc::Sender<Vec<u8>>) -> Frames {
        Frames { id, queue, batch: Vec::new() }
    }

    /// Adds a frame with the `length` bytes that `fill` writes.
    pub(super) fn frame<E: From<TreeError>>(
        &mut self,
        kind: Kind,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.batch.len() + HEADER_LEN + length > BATCH + HEADER_LEN {
            self.flush()?;
        }
        let header =
            Header::new(kind, self.id, length).map_err(|_| TreeError::Stream("an entry is too large"))?;
        self.batch.extend_from_slice(&header.encode());
        let start = self.batch.len();
        self.batch.resize(start + length, 0);
        fill(&mut self.batch[start..])
    }

    /// Queues what is collected. Fails when the connection's end has lost interest.
    pub(super) fn flush(&mut self) -> Result<(), TreeError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH + HEADER_LEN));
        self.queue.blocking_send(batch).map_err(|_| TreeError::Outlet)
    }
}

impl Outlet for Frames {
    fn entry(&mut self, entry: &Entry) -> Result<(), TreeError> {
        let payload = codec::encode(entry).map_err(|_| TreeError::Stream("an entry is too large"))?;
        self.frame(Kind::CopyEntry, payload.len(), |space| {
            space.copy_from_slice(&payload);
            Ok(())
        })
    }

    fn extent(&mut self, file: BorrowedFd<'_>, extent: Extent) -> Result<(), Reading> {
        let mut done = 0;
        while done < extent.length {
            let length = usize::try_from(extent.length - done).map_or(CHUNK, |left| left.min(CHUNK));
            let mut read = Ok(());
            let framed: Result<(), TreeError> = self.frame(Kind::CopyData, length, |space| {
                read = read_exact_at(file, space, extent.offset + done);
                Ok(())
            });
            framed.map_err(|_| Reading::Outlet)?;
            read?;
            done += length as u64;
        }
        Ok(())
    }
}

fn read_exact_at(file: BorrowedFd<'_>, mut space: &mut [u8], mut offset: u64) -> Result<(), Reading> {
    while !space.is_empty() {
        match pread(file, &mut *space, offset) {
            Ok(0) => return Err(Reading::Shrunk),
            Ok(count) => {
                space = &mut space[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Reading::Failed(errno)),
        }
    }
    Ok(())
}
