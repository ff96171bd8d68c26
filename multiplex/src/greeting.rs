//! How two sides of a line find each other, wherever in an old conversation either of them was.
//!
//! ```text
//!  guest, when it opens the port:   FLUSH  GUEST  0…0           I have just begun: greet me (again)
//!  host, when it connects:          FLUSH  HOST   generation    whatever you were doing, begin anew
//!  guest, in answer:                       GUEST  generation    from here on all bytes are of this conversation
//! ```
//!
//! `FLUSH` is a run of one byte, longer than any frame. A side that still carries connections takes its beginning for the rest
//! of something it was being sent; what follows is no frame, and that ends its conversation.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::hung_up;

/// Most bytes in one frame, its header not among them.
pub(crate) const MAX_FRAME_BODY: usize = 16 << 10;

/// Bytes of a frame's header. Source: the yamux specification.
pub(crate) const FRAME_HEADER: usize = 12;

/// No frame begins with it: there a version stands, which it is none. Where a header was torn apart in its length, of which the
/// last two bytes alone are in use, it makes lengths of a mebibyte and more, which yamux refuses, or of at most
/// [`SWALLOWED`].
const NO_FRAME: u8 = 0x10;

/// The longest body that a torn header can come to: its last byte is ours.
const SWALLOWED: usize = MAX_FRAME_BODY | 0x10;

/// What no earlier conversation can swallow whole: the rest of a header, the body after it, and one more header.
static FLUSH: [u8; SWALLOWED + 2 * FRAME_HEADER] = [NO_FRAME; SWALLOWED + 2 * FRAME_HEADER];

/// Random; the host's for each attempt. Zeros are the guest's, which has none.
pub type Generation = [u8; 16];

const NO_GENERATION: Generation = [0; 16];

/// Who greets. The first byte of either word is in it once, which lets [`Finder`] begin anew at any byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Host,
    Guest,
}

impl Side {
    fn word(self) -> &'static [u8; 16] {
        match self {
            Side::Host => b"\x01firstlight-host",
            Side::Guest => b"\x02firstlight-vm/1",
        }
    }

    fn greeting(self, generation: Generation) -> Vec<u8> {
        [&self.word()[..], &generation].concat()
    }
}

/// Finds the other side's greetings among bytes that mean nothing.
#[derive(Debug)]
pub(crate) struct Finder {
    word: &'static [u8; 16],
    /// How much of the word was there.
    matched: usize,
    generation: Vec<u8>,
}

impl Finder {
    /// Looks for greetings of `side`.
    pub(crate) fn of(side: Side) -> Finder {
        Finder { word: side.word(), matched: 0, generation: Vec::new() }
    }

    /// Takes the next bytes: how many of them belong to what comes before the end of a greeting, and its generation where
    /// they complete one.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> (usize, Option<Generation>) {
        for (index, &byte) in bytes.iter().enumerate() {
            match self.word.get(self.matched) {
                Some(&expected) if byte == expected => self.matched += 1,
                Some(_) => self.matched = usize::from(byte == self.word[0]),
                None => self.generation.push(byte),
            }
            if let Ok(generation) = Generation::try_from(&self.generation[..]) {
                self.matched = 0;
                self.generation.clear();
                return (index + 1, Some(generation));
            }
        }
        (bytes.len(), None)
    }
}

/// The next greeting that `finder` looks for. What follows it stays unread.
pub(crate) async fn hear(
    line: &mut (impl AsyncBufRead + Unpin),
    finder: &mut Finder,
) -> io::Result<Generation> {
    loop {
        let bytes = line.fill_buf().await?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (taken, generation) = finder.push(bytes);
        line.consume(taken);
        if let Some(generation) = generation {
            return Ok(generation);
        }
    }
}

/// The guest has opened its port. Returns once that is said, or nobody is there to hear it: then whoever comes greets by
/// himself, and this goes before the answer.
pub(crate) async fn announce(line: &mut (impl AsyncBufRead + AsyncWrite + Unpin)) -> io::Result<()> {
    line.write_all(&FLUSH).await?;
    line.write_all(&Side::Guest.greeting(NO_GENERATION)).await?;
    poll_fn(|cx| {
        if let Poll::Ready(flushed) = Pin::new(&mut *line).poll_flush(cx) {
            return Poll::Ready(flushed);
        }
        match Pin::new(&mut *line).poll_fill_buf(cx) {
            Poll::Ready(Err(error)) if hung_up(&error) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // What is read stays for later.
            Poll::Ready(Ok(_)) | Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The guest has heard the host.
pub(crate) async fn answer(line: &mut (impl AsyncWrite + Unpin), generation: Generation) -> io::Result<()> {
    line.write_all(&Side::Guest.greeting(generation)).await?;
    line.flush().await
}

/// The host's greetings, until the guest has answered one. A guest that has only begun since is greeted again, under another
/// generation: whether it or its predecessor heard the last is not known.
pub(crate) async fn greet(
    line: &mut (impl AsyncBufRead + AsyncWrite + Unpin),
    random: &mut impl FnMut() -> io::Result<Generation>,
) -> io::Result<()> {
    let mut finder = Finder::of(Side::Guest);
    loop {
        let generation = random()?;
        line.write_all(&FLUSH).await?;
        line.write_all(&Side::Host.greeting(generation)).await?;
        line.flush().await?;
        loop {
            match hear(line, &mut finder).await? {
                heard if heard == generation => return Ok(()),
                NO_GENERATION => break,
                // The answer to a greeting of an earlier host.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_greeting_is_found_after_any_bytes_and_wherever_the_stream_is_cut(
            before in proptest::collection::vec(prop_oneof![Just(1_u8), Just(b'f'), any::<u8>()], 0..200),
            torn in 0..16_usize,
            generation: Generation,
            step in 1..64_usize,
        ) {
            let mut stream = before;
            stream.extend(&Side::Host.word()[..torn]);
            // What a torn greeting is followed by is never a second one at once.
            stream.extend(FLUSH);
            let end = stream.len() + 32;
            stream.extend(Side::Host.greeting(generation));
            stream.extend(b"after");
            let mut finder = Finder::of(Side::Host);
            let (mut at, mut found) = (0, None);
            while found != Some(generation) && at < stream.len() {
                let piece = &stream[at..stream.len().min(at + step)];
                let (taken, greeting) = finder.push(piece);
                at += taken;
                found = greeting;
            }
            prop_assert_eq!((found, at), (Some(generation), end));
        }
    }

    #[test]
    fn one_side_s_greeting_is_not_the_other_s() {
        let mut finder = Finder::of(Side::Guest);
        assert_eq!(finder.push(&Side::Host.greeting([7; 16])), (32, None));
        assert_eq!(finder.push(&Side::Guest.greeting([7; 16])), (32, Some([7; 16])));
    }
}
