//! Between one stream of the multiplexer and one socket.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, copy_buf, sink, split,
};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::Notify;
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use crate::credit::Credit;
use crate::greeting::MAX_FRAME_BODY;

/// Bytes on their way in each direction: a frame.
const BUFFER: usize = MAX_FRAME_BODY;

/// Carries bytes and ends both ways until both directions have ended. Each ends by itself: a session that answers and leaves
/// is heard to its last byte, whatever its peer still sends.
///
/// Whoever leaves the socket altogether resets the stream, once all that he said is on its way: yamux does not tell a peer that
/// nobody takes its bytes any more when the stream has been ended before, and its window would stay used up.
pub(crate) async fn carry(stream: yamux::Stream, socket: UnixStream, credit: Arc<Credit>) {
    let (from_stream, mut to_stream) = split(stream.compat());
    let (from_socket, to_socket) = socket.into_split();
    let left = Notify::new();
    let come_in = async {
        tokio::select! {
            // The peer is told of a failure by the end of ours.
            _ = come_in(from_stream, to_socket) => {}
            () = left.notified() => {}
        }
    };
    let go_out = async {
        if let Err(Broken::Socket) = go_out(from_socket, &mut to_stream, &credit).await {
            left.notify_one();
        }
    };
    tokio::join!(come_in, go_out);
}

async fn come_in(from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    if copy_buf(&mut from, &mut to).await.is_ok() {
        return to.shutdown().await;
    }
    // Nobody takes it any more. A peer that could not get rid of it might never read what is on its way out.
    copy_buf(&mut from, &mut sink()).await.map(drop)
}

/// What broke on the way out.
enum Broken {
    /// The peer reset the stream. What it sent before still comes in.
    Stream,
    /// Whoever had the socket has gone, and takes no more. All that he sent before is on its way.
    Socket,
}

async fn go_out(
    from: OwnedReadHalf,
    to: &mut (impl AsyncWrite + Unpin),
    credit: &Credit,
) -> Result<(), Broken> {
    // yamux opens a stream, and says that it was taken, with the first frame, but not with the one that ends it. The peer
    // is to know at once: it may be the one to speak first, and yamux opens no more than 256 that nobody said were taken.
    let _ = to.write(&[]).await.map_err(|_| Broken::Stream)?;
    let mut from = BufReader::with_capacity(BUFFER, from);
    while !from.fill_buf().await.map_err(|_| Broken::Socket)?.is_empty() {
        let sent = send(from.buffer(), to, credit).await.map_err(|_| Broken::Stream)?;
        from.consume(sent);
    }
    if is_deserted(from.get_ref().as_ref()) {
        return Err(Broken::Socket);
    }
    to.shutdown().await.map_err(|_| Broken::Stream)
}

/// Whether nobody has the other end any more, rather than that it was ended in one direction. The kernel is asked, because what
/// the runtime has heard of a socket may be older than the end that was just read.
fn is_deserted(socket: &UnixStream) -> bool {
    let mut asked = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    let hung_up =
        |polled: &PollFd<'_>| polled.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP));
    poll(&mut asked, PollTimeout::ZERO).is_ok() && asked.iter().any(hung_up)
}

/// Sends some of `bytes`, when there is room for all of them. A stream whose window is used up keeps none from others while
/// it waits.
async fn send(bytes: &[u8], to: &mut (impl AsyncWrite + Unpin), credit: &Credit) -> io::Result<usize> {
    loop {
        let mut room = credit.room(bytes.len()).await?;
        match poll_fn(|cx| Poll::Ready(Pin::new(&mut *to).poll_write(cx, bytes))).await {
            Poll::Ready(sent) => {
                let sent = sent?;
                room.split(sent).into_iter().for_each(tokio::sync::SemaphorePermit::forget);
                return Ok(sent);
            }
            Poll::Pending => {
                drop(room);
                until_woken().await;
            }
        }
    }
}

/// Waits for whatever this task has asked to be woken for.
async fn until_woken() {
    let mut asked = false;
    poll_fn(|_| if std::mem::replace(&mut asked, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}
