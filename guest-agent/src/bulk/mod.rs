//! Bulk data over a connection, from a thread that may block.
//!
//! Files are read and written by system calls that wait for the disk, and one task may not hold up all others for that. A copy
//! therefore gets a thread, and the thread the connection: it waits with `poll(2)` where a task would yield, and
//! hands no byte from one to the other.

mod reader;
mod writer;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::wire::{Socket, WireError};

pub use reader::{BulkReader, Piece};
pub use writer::BulkWriter;

/// How long a peer may neither send nor take a byte in the middle of a copy. Its user may be typing what is copied, or
/// have stopped the command for a while; after this nobody comes back.
const IDLE: Duration = Duration::from_mins(10);

/// A socket that does not block, waited for.
#[derive(Debug)]
struct Waiting {
    socket: Socket,
}

impl Waiting {
    /// Repeats `call` until it would not block.
    fn until<T>(
        &self,
        events: PollFlags,
        operation: &'static str,
        mut call: impl FnMut(&Socket) -> Result<T, Errno>,
    ) -> Result<T, WireError> {
        let failed = |errno: Errno| WireError::Io { operation, source: io::Error::from(errno) };
        loop {
            match call(&self.socket) {
                Err(Errno::EAGAIN) => self.wait(events).map_err(failed)?,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno)),
                Ok(value) => return Ok(value),
            }
        }
    }

    fn wait(&self, events: PollFlags) -> Result<(), Errno> {
        let timeout = PollTimeout::try_from(IDLE).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), events)], timeout) {
            Ok(0) => Err(Errno::ETIMEDOUT),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}
