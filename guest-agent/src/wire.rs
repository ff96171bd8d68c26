//! Frames over one socket.
//!
//! Reading keeps what has arrived inside [`FrameReader`], so a read that is given up loses nothing. Writing does not: a
//! write that is given up leaves half a frame behind, and [`FrameWriter::is_between_frames`] tells.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use firstlight_protocol::codec::CodecError;
use firstlight_protocol::frame::{FrameError, Header};
use firstlight_protocol::message::Kind;
use nix::errno::Errno;
use nix::sys::uio::writev;
use tokio::io::Interest;
use tokio::time::{Instant, sleep, timeout_at};

use crate::deframer::{Deframer, Frame};
use crate::sys::{self, Watched};

/// How long a frame may take from its first byte to its last. A peer that stops inside one has hung or means harm.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);

/// A connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A system call on the socket failed, most often because the peer went away.
    #[error("{operation} the connection: {source}")]
    Io {
        /// `read`, `write`, `duplicate` or `watch`.
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The peer closed the connection inside a frame.
    #[error("the connection ended inside a frame")]
    Truncated,
    /// The rest of a frame did not come in time.
    #[error("the rest of a frame did not come within {} s", FRAME_DEADLINE.as_secs())]
    Stalled,
    /// A header was refused.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A payload was refused.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// A stream socket, vsock or unix; the two differ only in how they come about.
#[derive(Debug)]
pub struct Socket(Watched);

impl Socket {
    /// Wraps an accepted socket, which must not block.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn new(descriptor: OwnedFd) -> io::Result<Socket> {
        sys::watch(descriptor, Interest::READABLE | Interest::WRITABLE).map(Socket)
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.async_io(Interest::READABLE, |socket| Ok(nix::unistd::read(socket, buffer)?)).await
    }

    async fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let write = |socket: &OwnedFd| match writev(socket, parts) {
            Err(Errno::ENOMEM) => {
                write_as_fits(socket, parts.iter().find(|part| !part.is_empty()).map_or(&[], |part| part))
            }
            written => written,
        };
        self.0.async_io(Interest::WRITABLE, |socket| Ok(write(socket)?)).await
    }
}

/// How often a host that may be gone is looked for.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Makes a host's end known that nobody told us of, for as long as it is polled.
///
/// A client that is killed with unread bytes resets its connection, and a vhost-user backend may pass over that
/// (vhost-device-vsock 0.3.0 does): a command whose output nobody takes any more would then wait for ever. Word from
/// us makes the backend look at its socket again.
pub async fn keep_alive(socket: OwnedFd) -> Infallible {
    loop {
        sleep(KEEPALIVE).await;
        if sys::announce_vsock_window(&socket).is_err() {
            // Other sockets say themselves when their peer is gone.
            return std::future::pending().await;
        }
    }
}

/// The least that is written at once: a page, which the kernel can always find.
const SMALLEST_WRITE: usize = 4096;

/// Writes what fits in the kernel's memory. A vsock wants each packet's bytes in one piece, of which a guest whose memory is full of cached
/// files has no large ones left; the write then fails with `ENOMEM`, where half of it may do.
///
/// # Errors
/// As `write(2)`; `ENOMEM` when there is not even room for a page.
pub fn write_as_fits(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Errno> {
    let mut length = bytes.len();
    loop {
        match nix::unistd::write(socket, &bytes[..length]) {
            Err(Errno::ENOMEM) if length > SMALLEST_WRITE => length = (length / 2).max(SMALLEST_WRITE),
            written => return written,
        }
    }
}

/// Both directions of a connection.
#[derive(Debug)]
pub struct Connection {
    /// What the peer sends.
    pub reader: FrameReader,
    /// What the peer gets.
    pub writer: FrameWriter,
}

impl Connection {
    /// A connection over `socket` on which the peer's payloads end at `max_payload` bytes.
    #[must_use]
    pub fn new(socket: Socket, max_payload: u32) -> Connection {
        let socket = Arc::new(socket);
        let reader =
            FrameReader { socket: Arc::clone(&socket), deframer: Deframer::new(max_payload), deadline: None };
        Connection { reader, writer: FrameWriter { socket, inside_frame: false } }
    }

    /// The socket once more, to shut the connection down or to keep it alive beside whoever uses it.
    ///
    /// # Errors
    /// When no descriptor is free.
    pub fn duplicate_socket(&self) -> Result<OwnedFd, WireError> {
        let socket = self.writer.socket.0.get_ref().try_clone();
        socket.map_err(|source| WireError::Io { operation: "duplicate", source })
    }

    /// The socket for a thread that sends or receives bulk data. No task may use the connection until [`Connection::take_back`].
    ///
    /// The runtime stops watching the socket: its thread would otherwise be woken for every packet of the thread's, and learn
    /// nothing it can use.
    ///
    /// # Errors
    /// When no descriptor is free.
    pub fn lend(&mut self) -> Result<OwnedFd, WireError> {
        let socket = self.duplicate_socket()?;
        // There is no urgent data on a stream socket of these families, and to watch for nothing at all cannot be asked for.
        self.watch(Interest::PRIORITY)?;
        Ok(socket)
    }

    /// Makes the connection one for tasks again, when the thread has dropped its socket.
    ///
    /// # Errors
    /// When no descriptor is free.
    pub fn take_back(&mut self) -> Result<(), WireError> {
        self.watch(Interest::READABLE | Interest::WRITABLE)
    }

    /// Watches for `interest` and for nothing else. What a socket is watched for is settled when watching begins, hence the new one.
    fn watch(&mut self, interest: Interest) -> Result<(), WireError> {
        let socket = sys::watch(self.duplicate_socket()?, interest);
        let socket = Arc::new(Socket(socket.map_err(|source| WireError::Io { operation: "watch", source })?));
        self.reader.socket = Arc::clone(&socket);
        self.writer.socket = socket;
        Ok(())
    }
}

/// The reading direction.
#[derive(Debug)]
pub struct FrameReader {
    socket: Arc<Socket>,
    deframer: Deframer,
    deadline: Option<Instant>,
}

impl FrameReader {
    /// Changes the largest payload accepted.
    pub fn set_max_payload(&mut self, max_payload: u32) {
        self.deframer.set_max_payload(max_payload);
    }

    /// The next frame, or `None` when the peer closed the connection between two. Waits for a frame's first byte as
    /// long as it takes. Can be given up and called again.
    ///
    /// # Errors
    /// [`WireError`]; the connection is then of no more use for reading.
    pub async fn next(&mut self) -> Result<Option<Frame>, WireError> {
        loop {
            let space = self.deframer.space();
            let read = match self.deadline {
                None => self.socket.read(space).await,
                Some(deadline) => {
                    let read = timeout_at(deadline, self.socket.read(space)).await;
                    read.map_err(|_| WireError::Stalled)?
                }
            };
            let count = read.map_err(|source| WireError::Io { operation: "read", source })?;
            if count == 0 {
                return if self.deframer.is_inside_frame() { Err(WireError::Truncated) } else { Ok(None) };
            }
            if let Some(frame) = self.deframer.advance(count)? {
                self.deadline = None;
                return Ok(Some(frame));
            }
            self.deadline.get_or_insert_with(|| Instant::now() + FRAME_DEADLINE);
        }
    }
}

impl FrameReader {
    /// Reads and forgets whatever still comes, until the peer closes the connection. Closing first would make the
    /// kernel tell the peer of the unread bytes, in the place of our last words.
    pub async fn discard(&mut self) {
        let mut bytes = vec![0; 64 * 1024];
        while self.socket.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    }
}

/// The writing direction.
#[derive(Debug)]
pub struct FrameWriter {
    socket: Arc<Socket>,
    inside_frame: bool,
}

impl FrameWriter {
    /// Whether the next frame would be read as one, because the last was written whole.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        !self.inside_frame
    }

    /// Writes one frame, waiting for the peer to take it.
    ///
    /// # Errors
    /// [`WireError`] when the payload is too long or the peer is gone.
    pub async fn send(&mut self, kind: Kind, id: u64, payload: &[u8]) -> Result<(), WireError> {
        let header = Header::new(kind, id, payload.len())?.encode();
        let (mut header, mut payload) = (&header[..], payload);
        self.inside_frame = true;
        while !(header.is_empty() && payload.is_empty()) {
            let written = self.socket.write(&[IoSlice::new(header), IoSlice::new(payload)]).await;
            let written = written.map_err(|source| WireError::Io { operation: "write", source })?;
            let of_header = written.min(header.len());
            header = &header[of_header..];
            payload = &payload[written - of_header..];
        }
        self.inside_frame = false;
        Ok(())
    }
}
