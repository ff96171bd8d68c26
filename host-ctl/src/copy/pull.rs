//! From a guest to the host.

use std::future::Future;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{Entry, PullRequest, Totals};
use firstlight_protocol::message::file::Place;
use firstlight_tree::Sink;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::archive::Writer;
use super::{CopyError, Destination, IDLE, QUEUE, joined, place_on_host, shape};
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
    let source = from.clone();
    let writing = spawn_blocking(move || write(pieces, destination, &source));
    let received = tokio::select! {
        received = receive(&mut connection, id, queue) => received,
        () = stop => Err(CopyError::Interrupted),
    };
    // The queue is closed, so the thread ends. Should it have failed, that is why the receiving ended.
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
    queue: mpsc::Sender<Piece>,
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
        let (piece, end) = if header.kind == Kind::CopyData {
            (Piece::Data(payload), None)
        } else if header.kind == Kind::CopyEntry {
            (Piece::Entry(codec::decode(&payload)?), None)
        } else {
            let totals: Totals = codec::decode(&expect(Kind::CopyEnd, header.kind, payload)?)?;
            (Piece::End, Some(totals))
        };
        // That the thread takes no more shows above, or in what it ends with.
        let _ = queue.send(piece).await;
        if let Some(totals) = end {
            return Ok(totals);
        }
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
    source: &Place,
) -> Result<Totals, CopyError> {
    let mut target = match destination {
        Destination::Path { path, durable } => {
            let sink = Sink::new(&place_on_host(&path)?, shape(source), durable);
            Target::Path(Box::new(sink.map_err(CopyError::Host)?))
        }
        Destination::Archive(writer) => Target::Archive(Box::new(Writer::new(writer, &shape(source)))),
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
