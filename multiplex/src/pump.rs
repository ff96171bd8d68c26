//! Between one stream of the multiplexer and one socket.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, copy_buf, split};
use tokio::net::UnixStream;
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

/// Bytes on their way in each direction.
const BUFFER: usize = 16 << 10;

/// Carries bytes and ends both ways until both directions have ended. Each ends by itself: a session that answers and leaves
/// is heard to its last byte, whatever its peer still sends. A direction that breaks shows when both are over, as a reset.
pub(crate) async fn carry(stream: yamux::Stream, socket: UnixStream) {
    let (from_stream, to_stream) = split(stream.compat());
    let (from_socket, to_socket) = socket.into_split();
    // Who is told of a failure: the peer's end of the direction, by the end of ours.
    let _ = tokio::join!(one_way(from_stream, to_socket), one_way(from_socket, to_stream));
}

async fn one_way(from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    copy_buf(&mut BufReader::with_capacity(BUFFER, from), &mut to).await?;
    to.shutdown().await
}
