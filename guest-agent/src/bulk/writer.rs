//! Sending batches of frames.

use nix::poll::PollFlags;

use super::Waiting;
use crate::wire::{Socket, WireError, write_as_fits};

/// The sending end of a copy. A file's bytes are read into a batch and written from there: `sendfile(2)` would save that
/// one copy of them, but takes them through a pipe page by page, which makes a packet of each on a vsock.
#[derive(Debug)]
pub struct BulkWriter {
    socket: Waiting,
    broken: Option<WireError>,
}

impl BulkWriter {
    /// Writes to this socket.
    #[must_use]
    pub fn new(socket: Socket) -> BulkWriter {
        BulkWriter { socket: Waiting { socket }, broken: None }
    }

    /// Writes a batch. False when the connection is broken.
    pub fn write(&mut self, batch: &[u8]) -> bool {
        let mut rest = batch;
        while !rest.is_empty() {
            match self.socket.until(PollFlags::POLLOUT, "write", |socket| write_as_fits(socket, rest)) {
                Ok(written) => rest = &rest[written..],
                Err(error) => {
                    self.broken = Some(error);
                    return false;
                }
            }
        }
        true
    }

    /// Whether all batches were written whole.
    ///
    /// # Errors
    /// What broke the connection.
    pub fn finish(self) -> Result<(), WireError> {
        self.broken.map_or(Ok(()), Err)
    }
}
