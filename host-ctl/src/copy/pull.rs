//! From a guest to the host.

use std::future::Future;
use std::path::Path;

use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{Entry, PullRequest, Shape, Totals};
use firstlight_protocol::message::file::Place;
use firstlight_protocol::message::sync::{BATCH, FetchRequest};
use firstlight_tree::Sink;

use super::archive::Writer;
use super::{CopyError, Destination, Selection, line, on_host, shape};
use crate::agent::Connection;

/// Copies what is at `from` to `destination`. With `follow`, a symbolic link there stands for what it points to. Ends early
/// when `stop` does. When this returns, nothing of an unfinished copy is left that nobody had seen.
///
/// # Errors
/// [`CopyError`]. Files that are whole by then stay where they are if their directory was there before.
pub async fn pull(
    connection: Connection,
    from: &Place,
    follow: bool,
    destination: Destination,
    stop: impl Future<Output = ()>,
) -> Result<Totals, CopyError> {
    let request = PullRequest { place: from.clone(), follow };
    let shape = shape(from);
    line::on_thread(connection, stop, move |line| {
        line.ask(Kind::PullRequest, &request)?;
        let mut target = Target::new(destination, &shape)?;
        let announced = line.receive(&mut target, &|_| {})?;
        target.finish(&announced)
    })
    .await
}

/// Brings a part of what is in a directory of the guest to `to`, a directory of the host that is made if it is not there. Ends
/// early when `stop` does, as [`pull`] does.
///
/// # Errors
/// [`CopyError`]. Files that are whole by then stay where they are.
pub async fn fetch(
    connection: Connection,
    selection: Selection,
    to: &Path,
    stop: impl Future<Output = ()>,
) -> Result<Totals, CopyError> {
    let Selection { base, paths, owner, place, moved } = selection;
    let destination = Destination::Path { path: to.to_owned(), durable: false };
    line::on_thread(connection, stop, move |line| {
        let mut target = Target::new(destination, &Shape::Contents)?;
        target.entry(base)?;
        let mut announced = Totals::default();
        for paths in batches(paths) {
            let request = FetchRequest { place: place.clone(), owner, paths };
            line.ask(Kind::FetchRequest, &request)?;
            let part = line.receive(&mut target, &*moved)?;
            announced.lost_attributes = announced.lost_attributes.saturating_add(part.lost_attributes);
        }
        target.finish(&announced)
    })
    .await
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

/// Where the thread puts what comes.
pub(super) enum Target {
    Path(Box<Sink>),
    Archive(Box<Writer>),
}

impl Target {
    fn new(destination: Destination, shape: &Shape) -> Result<Target, CopyError> {
        Ok(match destination {
            Destination::Path { path, durable } => {
                let sink = Sink::new(&on_host(&path)?, shape.clone(), durable);
                Target::Path(Box::new(sink.map_err(CopyError::Host)?))
            }
            Destination::Archive(writer) => Target::Archive(Box::new(Writer::new(writer, shape))),
        })
    }

    pub(super) fn entry(&mut self, entry: Entry) -> Result<(), CopyError> {
        match self {
            Target::Path(sink) => sink.entry(entry).map_err(CopyError::Host),
            Target::Archive(writer) => Ok(writer.entry(&entry)?),
        }
    }

    pub(super) fn data(&mut self, bytes: &[u8]) -> Result<(), CopyError> {
        match self {
            Target::Path(sink) => sink.data(bytes).map_err(CopyError::Host),
            Target::Archive(writer) => Ok(writer.data(bytes)?),
        }
    }

    /// Shows what came. What the guest could not read, it has `announced`.
    fn finish(self, announced: &Totals) -> Result<Totals, CopyError> {
        let written = match self {
            Target::Path(sink) => sink.finish().map_err(CopyError::Host)?,
            Target::Archive(writer) => writer.finish()?,
        };
        let lost_attributes = written.lost_attributes.saturating_add(announced.lost_attributes);
        Ok(Totals { special: announced.special, lost_attributes, ..written })
    }
}
