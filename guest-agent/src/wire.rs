//! Frames over one socket.
//!
//! Reading keeps what has arrived inside [`FrameReader`], so a read that is given up loses nothing. Writing does not: a
//! write that is given up leaves half a frame behind, and [`FrameWriter::is_between_frames`] tells.

use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use firstlight_protocol::frame::Header;
use firstlight_protocol::message::Kind;
use firstlight_socket::bulk::{BulkError, write_as_fits};
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, setsockopt, sockopt};
use nix::sys::uio::writev;
use tokio::io::Interest;
use tokio::time::{Instant, sleep, timeout_at};

use crate::deframer::{Deframer, Frame};
use crate::sys::{self, SharedWatched};

/// How long a frame may take from its first byte to its last. A peer that stops inside one has hung or means harm.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);

/// How long closing a connection that was shut down waits for the peer, which answers at once or is gone.
const LINGER_SECONDS: i32 = 1;

/// A connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// What breaks a copy's connection breaks every other.
    #[error(transparent)]
    Broken(#[from] BulkError),
    /// The rest of a frame did not come in time.
    #[error("the rest of a frame did not come within {} s", FRAME_DEADLINE.as_secs())]
    Stalled,
}

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> BulkError {
    move |source| BulkError::Io { operation, source }
}

/// A stream socket, vsock or unix; the two differ only in how they come about. All who hold it hold one descriptor.
#[derive(Debug, Clone)]
pub struct Socket(Arc<OwnedFd>);

impl Socket {
    /// Wraps an accepted socket, which must not block.
    #[must_use]
    pub fn new(descriptor: OwnedFd) -> Socket {
        Socket(Arc::new(descriptor))
    }

    /// Ends both directions: whoever reads or writes hears of it. Closing then waits until the peer has heard too: a
    /// vsock connection that is half closed when its device goes is kept for seconds more.
    pub fn shut_down(&self) {
        let linger = libc::linger { l_onoff: 1, l_linger: LINGER_SECONDS };
        let _ = setsockopt(&self.0, sockopt::Linger, &linger);
        self.hang_up();
    }

    /// Ends both directions: whoever reads or writes hears of it.
    pub fn hang_up(&self) {
        // It fails for a connection that the peer has ended already.
        let _ = nix::sys::socket::shutdown(self.0.as_raw_fd(), Shutdown::Both);
    }

    /// Makes a host's end known that nobody told us of, for as long as it is polled.
    ///
    /// A client that is killed with unread bytes resets its connection, and a vhost-user backend may pass over that
    /// (vhost-device-vsock 0.3.0 does): a command whose output nobody takes any more would then wait for ever. Word from
    /// us makes the backend look at its socket again.
    pub async fn keep_alive(&self) -> Infallible {
        loop {
            sleep(KEEPALIVE).await;
            if sys::announce_vsock_window(self).is_err() {
                // Other sockets say themselves when their peer is gone.
                return std::future::pending().await;
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Who waits for a connection's socket.
#[derive(Debug)]
enum Watch {
    /// Tasks, by means of the runtime.
    Tasks(SharedWatched),
    /// A thread. The runtime does not watch the socket meanwhile: its own thread would be woken for every packet, and learn nothing
    /// it can use.
    Thread,
}

impl Watch {
    fn new(socket: &Socket) -> Result<Arc<Watch>, WireError> {
        let watched = sys::watch_shared(Arc::clone(&socket.0), Interest::READABLE | Interest::WRITABLE);
        Ok(Arc::new(Watch::Tasks(watched.map_err(failed("watch"))?)))
    }

    fn tasks(&self) -> io::Result<&SharedWatched> {
        match self {
            Watch::Tasks(watched) => Ok(watched),
            Watch::Thread => Err(io::ErrorKind::ResourceBusy.into()),
        }
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = |socket: &Arc<OwnedFd>| Ok(nix::unistd::read(socket, &mut *buffer)?);
        self.tasks()?.async_io(Interest::READABLE, read).await
    }

    async fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let write = |socket: &Arc<OwnedFd>| match writev(socket, parts) {
            Err(Errno::ENOMEM) => {
                write_as_fits(socket, parts.iter().find(|part| !part.is_empty()).map_or(&[], |part| part))
            }
            written => written,
        };
        self.tasks()?.async_io(Interest::WRITABLE, |socket| Ok(write(socket)?)).await
    }
}

/// How often a host that may be gone is looked for.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// Both directions of a connection.
#[derive(Debug)]
pub struct Connection {
    /// What the peer sends.
    pub reader: FrameReader,
    /// What the peer gets.
    pub writer: FrameWriter,
    socket: Socket,
}

impl Connection {
    /// A connection over `socket` on which the peer's payloads end at `max_payload` bytes.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn new(socket: Socket, max_payload: u32) -> Result<Connection, WireError> {
        let watch = Watch::new(&socket)?;
        let reader =
            FrameReader { watch: Arc::clone(&watch), deframer: Deframer::new(max_payload), deadline: None };
        Ok(Connection { reader, writer: FrameWriter { watch, inside_frame: false }, socket })
    }

    /// The socket, for whoever keeps it alive or may have to end the connection.
    #[must_use]
    pub fn socket(&self) -> Socket {
        self.socket.clone()
    }

    /// The socket for a thread that sends or receives bulk data. Tasks cannot use the connection until [`Connection::take_back`].
    pub fn lend(&mut self) -> Socket {
        self.set_watch(&Arc::new(Watch::Thread));
        self.socket.clone()
    }

    /// Makes the connection one for tasks again, when the thread is done with its socket.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`.
    pub fn take_back(&mut self) -> Result<(), WireError> {
        self.set_watch(&Watch::new(&self.socket)?);
        Ok(())
    }

    fn set_watch(&mut self, watch: &Arc<Watch>) {
        self.reader.watch = Arc::clone(watch);
        self.writer.watch = Arc::clone(watch);
    }
}

/// The reading direction.
#[derive(Debug)]
pub struct FrameReader {
    watch: Arc<Watch>,
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
                None => self.watch.read(space).await,
                Some(deadline) => {
                    let read = timeout_at(deadline, self.watch.read(space)).await;
                    read.map_err(|_| WireError::Stalled)?
                }
            };
            let count = read.map_err(failed("read"))?;
            if count == 0 {
                return if self.deframer.is_inside_frame() {
                    Err(BulkError::Truncated.into())
                } else {
                    Ok(None)
                };
            }
            if let Some(frame) = self.deframer.advance(count).map_err(BulkError::from)? {
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
        while self.watch.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    }
}

/// The writing direction.
#[derive(Debug)]
pub struct FrameWriter {
    watch: Arc<Watch>,
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
        let header = Header::new(kind, id, payload.len()).map_err(BulkError::from)?.encode();
        let (mut header, mut payload) = (&header[..], payload);
        self.inside_frame = true;
        while !(header.is_empty() && payload.is_empty()) {
            let written = self.watch.write(&[IoSlice::new(header), IoSlice::new(payload)]).await;
            let written = written.map_err(failed("write"))?;
            let of_header = written.min(header.len());
            header = &header[of_header..];
            payload = &payload[written - of_header..];
        }
        self.inside_frame = false;
        Ok(())
    }
}
