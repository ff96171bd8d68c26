//! A connection that belongs to a copy's thread.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use firstlight_protocol::codec;
use firstlight_protocol::frame::Header;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::Totals;
use firstlight_protocol::message::error::AgentError;
use firstlight_socket::bulk::{BulkReader, BulkWriter, Piece};
use rustix::net::{Shutdown, shutdown};
use tokio::task::spawn_blocking;

use super::pull::Target;
use super::{CopyError, joined};
use crate::agent::{Connection, Error};

/// Requests, and copies that answer them.
pub(super) struct Line {
    socket: Arc<OwnedFd>,
    reader: BulkReader<Arc<OwnedFd>>,
    next_id: u64,
}

impl Line {
    /// Asks for a copy.
    pub(super) fn ask<T: bincode::Encode>(&mut self, kind: Kind, request: &T) -> Result<(), CopyError> {
        let id = self.next_id;
        self.next_id += 1;
        self.reader.follow(id);
        let payload = codec::encode(request)?;
        let header = Header::new(kind, id, payload.len()).map_err(Error::from)?.encode();
        let mut writer = BulkWriter::new(&self.socket);
        writer.write(&mut [&header[..], &payload].concat());
        Ok(writer.finish().map_err(Error::from)?)
    }

    /// Takes what was asked for, to its end; `moved` is told how many bytes of content each piece has.
    pub(super) fn receive(
        &mut self,
        target: &mut Target,
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Totals, CopyError> {
        loop {
            match self.reader.piece().map_err(Error::from)? {
                Piece::Entry(entry) => target.entry(entry)?,
                Piece::Data(bytes) => {
                    moved(bytes.len() as u64);
                    target.data(bytes)?;
                }
                Piece::End(totals) => return Ok(totals),
                Piece::Other(header) => return Err(self.interruption(header)),
            }
        }
    }

    /// What a frame means that is no part of the copy.
    fn interruption(&mut self, header: Header) -> CopyError {
        if header.kind != Kind::Error {
            return Error::Protocol(format!("frame {:?} belongs to no copy", header.kind)).into();
        }
        let payload = self.reader.payload(header.length as usize).map_err(Error::from);
        let told = payload.and_then(|payload| Ok(codec::decode::<AgentError>(&payload)?));
        told.map_or_else(CopyError::Guest, |told| Error::Agent(told).into())
    }
}

/// Has a thread work with the connection. Ends early when `stop` does; what the thread has not shown is then taken back when this
/// returns.
pub(super) async fn on_thread<T: Send + 'static>(
    mut connection: Connection,
    stop: impl Future<Output = ()>,
    work: impl FnOnce(&mut Line) -> Result<T, CopyError> + Send + 'static,
) -> Result<T, CopyError> {
    let next_id = connection.fresh_id();
    let (socket, ..) = connection.lend()?;
    let hang_up = HangUp(Arc::new(socket));
    let socket = Arc::clone(&hang_up.0);
    let mut line = Line { reader: BulkReader::new(Arc::clone(&socket), next_id), socket, next_id };
    let mut thread = spawn_blocking(move || work(&mut line));
    tokio::select! {
        worked = &mut thread => return joined(worked),
        () = stop => drop(hang_up),
    }
    let _ = thread.await;
    Err(CopyError::Interrupted)
}

/// Ends a connection for the thread that waits for it.
pub(super) struct HangUp(pub(super) Arc<OwnedFd>);

impl Drop for HangUp {
    fn drop(&mut self) {
        // It fails for a connection that the agent has ended.
        let _ = shutdown(&self.0, Shutdown::Both);
    }
}
