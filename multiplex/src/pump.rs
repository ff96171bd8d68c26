//! Between one stream of the multiplexer and one socket.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, copy_buf, split,
};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use crate::credit::Credit;
use crate::greeting::MAX_FRAME_BODY;

/// Bytes on their way in each direction: a frame.
const BUFFER: usize = MAX_FRAME_BODY;

/// Carries bytes and ends both ways until both directions have ended. Each ends by itself: a session that answers and leaves
/// is heard to its last byte, whatever its peer still sends. A direction that breaks shows when both are over, as a reset; one
/// that breaks because nobody is left at the socket ends the other.
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
    copy_buf(&mut BufReader::with_capacity(BUFFER, from), &mut to).await?;
    to.shutdown().await
}

/// What broke on the way out.
enum Broken {
    /// The peer reset the stream. What it sent before still comes in.
    Stream,
    /// Whoever had the socket has gone with bytes unread, and takes no more. All that he sent before is on its way.
    Socket,
}

async fn go_out(
    from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
    credit: &Credit,
) -> Result<(), Broken> {
    let mut from = BufReader::with_capacity(BUFFER, from);
    let mut opened = false;
    while !from.fill_buf().await.map_err(|_| Broken::Socket)?.is_empty() {
        let sent = send(from.buffer(), to, credit).await.map_err(|_| Broken::Stream)?;
        from.consume(sent);
        opened = true;
    }
    if !opened {
        // yamux opens a stream with its first frame, but not with the one that ends it: the peer would not know what has
        // ended, would not answer, and the stream would stay.
        let _ = to.write(&[]).await.map_err(|_| Broken::Stream)?;
    }
    to.shutdown().await.map_err(|_| Broken::Stream)
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
