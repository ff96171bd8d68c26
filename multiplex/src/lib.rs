//! Many connections over one stream of bytes that has no beginning and no end: a virtio-serial port.
//!
//! ```text
//!  host                                     port                               guest
//!  client ═ socket pair ═ pump ─┐                                ┌─ pump ═ socket pair ═ session
//!  client ═ socket pair ═ pump ─┼─ yamux ─── one stream of ───── yamux ─┼─ pump ═ socket pair ═ session
//!                               └── greeting ─── bytes ─── greeting ─┘
//! ```
//!
//! A port says neither when a peer begins nor when it ends: bytes of a monitor or an agent that was killed may come before
//! those of its successor. So both sides begin with a [`greeting`], after which nothing old can come. Then `yamux` carries
//! the connections, and each gets a socket pair, so that whoever uses it has a socket like any other. What they have under
//! way together is bounded by [`credit`], so that a short question does not wait for others' megabytes.

mod credit;
mod greeting;
mod guest;
mod host;
mod pump;
#[cfg(test)]
mod tests;

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, BufReader, BufWriter};

pub use greeting::Generation;
pub use guest::Guest;
pub use host::{Request, dial};

/// A stream of bytes between host and guest.
///
/// A read that fails with `ConnectionReset` says that the peer has hung up and another may come. Any other error, and the
/// end of the stream, are for good. It holds at least 17 KiB in each direction, which both sides write before they read.
pub trait Line: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Line for T {}

/// Connections at one time. As many as an agent takes; of each it may hold [`yamux::DEFAULT_CREDIT`] bytes that its session
/// has not read.
pub const MAX_CONNECTIONS: usize = 320;

/// Streams that a side still knows of. More than there are connections and [`credit`]'s own, because each side forgets one at
/// another time, and yamux ends everything when there is one too many.
const MAX_STREAMS: usize = 3 * MAX_CONNECTIONS;

/// Most bytes that are read from the line at a time.
const READ_BUFFER: usize = 16 << 10;

/// Most bytes that are collected before they are written: yamux writes the header of a frame apart, and each write to a port
/// is one notification of the VMM.
const WRITE_BUFFER: usize = 32 << 10;

/// A line with its buffers. What was read too early stays with it when a multiplexer ends.
type Buffered<T> = BufReader<BufWriter<T>>;

fn buffered<T: Line>(line: T) -> Buffered<T> {
    BufReader::with_capacity(READ_BUFFER, BufWriter::with_capacity(WRITE_BUFFER, line))
}

fn config() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(MAX_STREAMS);
    // Windows stay as they begin: the round trip is microseconds, and the guest's memory is the guest's.
    let credit = usize::try_from(yamux::DEFAULT_CREDIT).unwrap_or(usize::MAX);
    config.set_max_connection_receive_window(Some(MAX_STREAMS * credit));
    config.set_split_send_size(greeting::MAX_FRAME_BODY);
    config
}

/// Whether another peer may come on a line whose read has failed.
fn hung_up(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionReset
}
