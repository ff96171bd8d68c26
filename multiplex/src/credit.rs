//! How much may be on its way in one direction, of all connections together.
//!
//! A line has queues that neither end sees: a virtio-serial port keeps half a megabyte in the guest. What stands there comes
//! before whatever is said next, by whomever. So each side tells the other how many bytes have come in, on the first stream of
//! a conversation, and connections wait in turn for room. Windows are still the streams' own: what has come in makes room, read
//! or not, so a connection that nobody reads holds up no other.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, split};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;

use crate::greeting::FRAME_HEADER;

/// Bytes that may be on their way. With fewer a line would stand idle until word of them is back; more only wait in it.
pub(crate) const LIMIT: usize = 64 << 10;

/// After how many bytes the other side is told of them. Together with a frame they are far less than [`LIMIT`], so what was not
/// told of yet holds up nobody.
const STEP: u64 = 16 << 10;

/// The stream on which the two sides tell each other: the first of a conversation, which the host opens.
const OURS: u32 = 1;

/// What one side may send.
#[derive(Debug)]
pub(crate) struct Credit {
    room: Semaphore,
    heard: Arc<Heard>,
}

/// How much has come in.
#[derive(Debug, Default)]
struct Heard {
    bytes: AtomicU64,
    /// Told at each [`STEP`].
    step: Notify,
}

impl Credit {
    /// That of a new conversation over `line`, whose frames are counted.
    pub(crate) fn over<T>(line: T) -> (Arc<Credit>, Counted<T>) {
        let heard = Arc::new(Heard::default());
        let credit = Credit { room: Semaphore::new(LIMIT), heard: Arc::clone(&heard) };
        (Arc::new(credit), Counted { line, heard, frames: Frames::default() })
    }

    /// Waits its turn for room for `bytes`, or for as many as there can be. It is room again once it is dropped, or, where
    /// it was used and forgotten, once the other side has told of what came in.
    ///
    /// # Errors
    /// `BrokenPipe` when the conversation is over.
    pub(crate) async fn room(&self, bytes: usize) -> io::Result<SemaphorePermit<'_>> {
        let bytes = u32::try_from(bytes.min(LIMIT)).unwrap_or(u32::MAX);
        self.room.acquire_many(bytes).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Tells and is told, on [`OURS`], until the conversation is over.
    pub(crate) async fn keep(self: Arc<Credit>, stream: yamux::Stream) {
        let (from, to) = split(stream.compat());
        tokio::select! {
            _ = self.hear(from) => {}
            _ = self.tell(to) => {}
        }
        self.room.close();
    }

    async fn hear(&self, mut from: impl AsyncRead + Unpin) -> io::Result<()> {
        loop {
            let bytes = from.read_u32().await?;
            // Nobody is given more than he has used, whatever a peer says.
            let used = LIMIT.saturating_sub(self.room.available_permits());
            self.room.add_permits(used.min(usize::try_from(bytes).unwrap_or(usize::MAX)));
        }
    }

    async fn tell(&self, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut told = 0;
        loop {
            let heard = self.heard.bytes.load(Ordering::Relaxed);
            // The first is of nothing, and opens the stream.
            to.write_u32(u32::try_from(heard - told).unwrap_or(u32::MAX)).await?;
            told = heard;
            self.heard.step.notified().await;
        }
    }
}

/// A line that counts the bytes of connections which come in.
#[derive(Debug)]
pub(crate) struct Counted<T> {
    line: T,
    heard: Arc<Heard>,
    frames: Frames,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.line).poll_read(cx, buffer))?;
        let new = self.frames.push(buffer.filled().get(before..).unwrap_or_default());
        let heard = self.heard.bytes.fetch_add(new, Ordering::Relaxed);
        if heard / STEP != (heard + new) / STEP {
            self.heard.step.notify_one();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.line).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.line).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.line).poll_shutdown(cx)
    }
}

/// Follows frames by their headers. Source: the yamux specification.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; FRAME_HEADER],
    /// Bytes of the header that were there.
    begun: usize,
    /// Bytes that the body still has, and whether they are a connection's.
    body: usize,
    counts: bool,
}

impl Frames {
    /// Takes the next bytes: how many of them are of connections.
    fn push(&mut self, mut bytes: &[u8]) -> u64 {
        let mut counted = 0;
        while let Some((&first, rest)) = bytes.split_first() {
            if self.body > 0 {
                let taken = self.body.min(bytes.len());
                self.body -= taken;
                counted += if self.counts { taken as u64 } else { 0 };
                bytes = bytes.get(taken..).unwrap_or_default();
            } else {
                self.begin(first);
                bytes = rest;
            }
        }
        counted
    }

    /// Takes one byte of a header.
    fn begin(&mut self, byte: u8) {
        /// The kind of frame that has a body.
        const DATA: u8 = 0;
        self.header[self.begun] = byte;
        self.begun = (self.begun + 1) % FRAME_HEADER;
        if self.begun == 0 {
            let [_, kind, _, _, a, b, c, d, length @ ..] = self.header;
            self.counts = u32::from_be_bytes([a, b, c, d]) != OURS;
            self.body = if kind == DATA { u32::from_be_bytes(length) as usize } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u32, length: u32) -> Vec<u8> {
        [&[0, kind, 0, 0][..], &stream.to_be_bytes(), &length.to_be_bytes()].concat()
    }

    #[test]
    fn what_counts_is_the_data_of_connections_wherever_the_line_is_cut() {
        let stream = [
            frame(0, 3, 5),
            b"hello".to_vec(),
            // A window is no body, however large, and what the sides tell each other no connection's.
            frame(1, 3, 1 << 20),
            frame(0, OURS, 4),
            vec![0; 4],
            frame(0, 5, 0),
            frame(0, 5, 300),
            vec![0; 299],
        ]
        .concat();
        for step in 1..stream.len() {
            let mut frames = Frames::default();
            assert_eq!(stream.chunks(step).map(|piece| frames.push(piece)).sum::<u64>(), 304, "{step}");
        }
    }

    #[tokio::test]
    async fn a_peer_that_tells_of_more_than_there_was_gives_no_more_room() {
        let (credit, _) = Credit::over(());
        credit.room(1000).await.unwrap().forget();
        let told = [1000_u32.to_be_bytes(), u32::MAX.to_be_bytes()].concat();
        credit.hear(&told[..]).await.unwrap_err();
        assert_eq!(credit.room.available_permits(), LIMIT);
    }
}
