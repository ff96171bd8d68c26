//! From a guest to the host.

use std::future::Future;
use std::path::Path;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{Entry, PullRequest, Shape, Totals};
use firstlight_protocol::message::file::Place;
use firstlight_protocol::message::sync::{BATCH, FetchRequest};
use firstlight_tree::Sink;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::archive::Writer;
use super::{CopyError, Destination, IDLE, QUEUE, Selection, joined, place_on_host, shape};
use crate::agent::{Awaited, Connection, Error, expect};

/// Copies what is at `from` to `destination`. With `follow`, a symbolic link there stands for what it points to. Ends early
/// when `stop` does. When this returns, nothing of an unfinished copy is left that nobody had seen.
///
/// # Errors
/// [`CopyError`]. Files that are whole by then stay where they are if their directory was there before.
pub async fn pull(
    mut connection: Connection,
    from: &Place,
    follow: bool,
    destination: Destination,
    stop: impl Future<Output = ()>,
) -> Result<Totals, CopyError> {
    let id = connection.fresh_id();
    let request = PullRequest { place: from.clone(), follow };
    connection.send(Kind::PullRequest, id, &request).await?;
    let (queue, pieces) = mpsc::channel(QUEUE);
    let shape = shape(from);
    let writing = spawn_blocking(move || write(pieces, destination, &shape));
    let received = tokio::select! {
        received = async {
            let totals = receive(&mut connection, id, &queue, &|_| {}).await?;
            finish(&queue).await;
            Ok(totals)
        } => received,
        () = stop => Err(CopyError::Interrupted),
    };
    drop(queue);
    conclude(received, writing).await
}

/// Brings a part of what is in a directory of the guest to `to`, a directory of the host that is made if it is not there. Ends
/// early when `stop` does, as [`pull`] does.
///
/// # Errors
/// [`CopyError`]. Files that are whole by then stay where they are.
pub async fn fetch(
    mut connection: Connection,
    selection: Selection,
    to: &Path,
    stop: impl Future<Output = ()>,
) -> Result<Totals, CopyError> {
    let Selection { base, paths, owner, place, moved } = selection;
    let destination = Destination::Path { path: to.to_owned(), durable: false };
    let (queue, pieces) = mpsc::channel(QUEUE);
    let writing = spawn_blocking(move || write(pieces, destination, &Shape::Contents));
    let received = tokio::select! {
        received = async {
            let mut announced = Totals::default();
            // That the thread takes no more shows in what it ends with.
            let _ = queue.send(Piece::Entry(base)).await;
            for paths in batches(paths) {
                let id = connection.fresh_id();
                let request = FetchRequest { place: place.clone(), owner, paths };
                connection.send(Kind::FetchRequest, id, &request).await?;
                let part = receive(&mut connection, id, &queue, &*moved).await?;
                announced.lost_attributes = announced.lost_attributes.saturating_add(part.lost_attributes);
            }
            finish(&queue).await;
            Ok(announced)
        } => received,
        () = stop => Err(CopyError::Interrupted),
    };
    drop(queue);
    conclude(received, writing).await
}

/// Paths in groups that each fit a frame.
fn batches(paths: Vec<Vec<u8>>) -> Vec<Vec<Vec<u8>>> {
    let (mut batches, mut bytes) = (Vec::<Vec<Vec<u8>>>::new(), BATCH);
    for path in paths {
        if bytes >= BATCH {
            batches.push(Vec::new());
            bytes = 0;
        }
        bytes += path.len();
        if let Some(batch) = batches.last_mut() {
            batch.push(path);
        }
    }
    batches
}

/// Tells the thread that the stream is whole.
async fn finish(queue: &mpsc::Sender<Piece>) {
    // That the thread takes no more shows in what it ends with.
    let _ = queue.send(Piece::End).await;
}

/// What the copy came to, when its queue is closed and the thread therefore ends. Should the thread have failed, that is why
/// the receiving ended.
async fn conclude(
    received: Result<Totals, CopyError>,
    writing: JoinHandle<Result<Totals, CopyError>>,
) -> Result<Totals, CopyError> {
    let written = joined(writing.await);
    match received {
        Ok(announced) => {
            let written = written?;
            let lost_attributes = written.lost_attributes.saturating_add(announced.lost_attributes);
            Ok(Totals { special: announced.special, lost_attributes, ..written })
        }
        Err(error) => Err(error),
    }
}

/// A frame of the copy, as the thread takes it.
enum Piece {
    Entry(Entry),
    Data(Vec<u8>),
    /// The stream is whole. A queue that ends without this is an interrupted copy.
    End,
}

/// Queues what the agent sends, to its end or until the thread takes no more.
async fn receive(
    connection: &mut Connection,
    id: u64,
    queue: &mpsc::Sender<Piece>,
    moved: &(dyn Fn(u64) + Send + Sync),
) -> Result<Totals, CopyError> {
    loop {
        let frame = tokio::select! {
            frame = timeout(IDLE, connection.recv()) => frame,
            // The thread has failed, and its error is the copy's.
            () = queue.closed() => return Ok(Totals::default()),
        };
        let (header, payload) = frame.map_err(|_| Error::Timeout(Awaited::Copy))??;
        if header.id != id && header.kind != Kind::Error {
            return Err(Error::Protocol(format!("frame {:?} belongs to no copy", header.kind)).into());
        }
        let piece = if header.kind == Kind::CopyData {
            moved(payload.len() as u64);
            Piece::Data(payload)
        } else if header.kind == Kind::CopyEntry {
            Piece::Entry(codec::decode(&payload)?)
        } else {
            return Ok(codec::decode(&expect(Kind::CopyEnd, header.kind, payload)?)?);
        };
        // That the thread takes no more shows above, or in what it ends with.
        let _ = queue.send(piece).await;
    }
}

/// Where the thread puts what comes.
enum Target {
    Path(Box<Sink>),
    Archive(Box<Writer>),
}

/// Writes pieces to the end. On a thread.
fn write(
    mut pieces: mpsc::Receiver<Piece>,
    destination: Destination,
    shape: &Shape,
) -> Result<Totals, CopyError> {
    let mut target = match destination {
        Destination::Path { path, durable } => {
            let sink = Sink::new(&place_on_host(&path)?, shape.clone(), durable);
            Target::Path(Box::new(sink.map_err(CopyError::Host)?))
        }
        Destination::Archive(writer) => Target::Archive(Box::new(Writer::new(writer, shape))),
    };
    while let Some(piece) = pieces.blocking_recv() {
        match (piece, &mut target) {
            (Piece::Entry(entry), Target::Path(sink)) => sink.entry(entry).map_err(CopyError::Host)?,
            (Piece::Entry(entry), Target::Archive(writer)) => writer.entry(&entry)?,
            (Piece::Data(bytes), Target::Path(sink)) => sink.data(&bytes).map_err(CopyError::Host)?,
            (Piece::Data(bytes), Target::Archive(writer)) => writer.data(&bytes)?,
            (Piece::End, _) => {
                return match target {
                    Target::Path(sink) => sink.finish().map_err(CopyError::Host),
                    Target::Archive(writer) => Ok(writer.finish()?),
                };
            }
        }
    }
    Err(CopyError::Interrupted)
}
