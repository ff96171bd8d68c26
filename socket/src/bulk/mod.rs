//! Bulk data over a connection, from a thread that may block: the same at both ends of a copy.
//!
//! Files are read and written by system calls that wait for the disk, and one task may not hold up all others for that. A copy
//! therefore gets a thread, and the thread the connection: it waits with `poll(2)` where a task would yield, and
//! hands no byte from one to the other.

mod reader;
mod writer;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use firstlight_protocol::codec::CodecError;
use firstlight_protocol::frame::FrameError;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use reader::{BulkReader, Piece};
pub use writer::{BulkWriter, write_as_fits};

/// How long a peer may neither send nor take a byte in the middle of a copy. Its user may be typing what is copied, or
/// have stopped the command for a while; after this nobody comes back.
const IDLE: Duration = Duration::from_mins(10);

/// A connection cannot go on: a copy's, or any that frames cross.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// A system call on the socket failed, most often because the peer went away; `TimedOut` when a copy moved nothing for ten minutes.
    #[error("{operation} the connection: {source}")]
    Io {
        /// `read`, `write` or `watch`.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The peer closed the connection inside a frame, or before a copy's end.
    #[error("the connection ended inside a frame")]
    Truncated,
    /// A header was refused.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A payload was refused.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// A socket that does not block, waited for.
#[derive(Debug)]
struct Waiting<S> {
    socket: S,
}

impl<S: AsFd> Waiting<S> {
    /// Repeats `call` until it would not block.
    fn until<T>(
        &self,
        events: PollFlags,
        operation: &'static str,
        mut call: impl FnMut(&S) -> Result<T, Errno>,
    ) -> Result<T, BulkError> {
        let failed = |errno: Errno| BulkError::Io { operation, source: io::Error::from(errno) };
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
