//! Entries and bytes as frames, many of them in one write.

use std::os::fd::BorrowedFd;

use firstlight_protocol::codec::{self, CodecError};
use firstlight_protocol::frame::{HEADER_LEN, Header};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{CHUNK, Entry, Extent};
use rustix::io::{Errno, pread};

use crate::error::Error;
use crate::source::{Outlet, Reading};

/// Bytes of frames that go out at once: a full frame of data, or some hundred small files.
const BATCH: usize = HEADER_LEN + CHUNK;

/// Collects frames under one id, and hands them on in batches of whole frames. `deliver` sends a batch or takes it away, or says
/// that nobody takes any more.
pub struct Frames<D> {
    id: u64,
    /// The frames, and after them bytes of earlier ones: to make room is then not to write zeros first.
    batch: Vec<u8>,
    used: usize,
    deliver: D,
}

impl<D: FnMut(&mut Vec<u8>) -> bool> Frames<D> {
    /// Frames under this id.
    pub fn new(id: u64, deliver: D) -> Frames<D> {
        Frames { id, batch: Vec::new(), used: 0, deliver }
    }

    /// Adds a frame whose `length` bytes `fill` writes. When it fails there is no frame.
    ///
    /// # Errors
    /// What `fill` fails with, and [`Error::Outlet`].
    pub fn frame<E: From<Error>>(
        &mut self,
        kind: Kind,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.used + HEADER_LEN + length > BATCH {
            self.flush()?;
        }
        let header =
            Header::new(kind, self.id, length).map_err(|_| Error::Stream("an entry is too large"))?;
        let payload = self.used + HEADER_LEN;
        let end = payload + length;
        if self.batch.len() < end {
            self.batch.resize(end.max(BATCH), 0);
        }
        self.batch[self.used..payload].copy_from_slice(&header.encode());
        fill(&mut self.batch[payload..end])?;
        self.used = end;
        Ok(())
    }

    /// Adds a frame with a message.
    ///
    /// # Errors
    /// When the message does not fit a frame, and [`Error::Outlet`].
    pub fn message(&mut self, kind: Kind, message: Result<Vec<u8>, CodecError>) -> Result<(), Error> {
        let payload = message.map_err(|_| Error::Stream("an entry is too large"))?;
        self.frame(kind, payload.len(), |space| {
            space.copy_from_slice(&payload);
            Ok(())
        })
    }

    /// Hands on what is collected.
    ///
    /// # Errors
    /// [`Error::Outlet`].
    pub fn flush(&mut self) -> Result<(), Error> {
        if self.used == 0 {
            return Ok(());
        }
        self.batch.truncate(self.used);
        self.used = 0;
        if (self.deliver)(&mut self.batch) { Ok(()) } else { Err(Error::Outlet) }
    }
}

impl<D: FnMut(&mut Vec<u8>) -> bool> Outlet for Frames<D> {
    fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        self.message(Kind::CopyEntry, codec::encode(entry))
    }

    fn extent(&mut self, file: BorrowedFd<'_>, extent: Extent) -> Result<(), Reading> {
        let mut done = 0;
        while done < extent.length {
            let length = usize::try_from(extent.length - done).map_or(CHUNK, |left| left.min(CHUNK));
            self.frame(Kind::CopyData, length, |space| read_exact_at(file, space, extent.offset + done))?;
            done += length as u64;
        }
        Ok(())
    }
}

/// An outlet that is gone is the only error that is not the file's.
impl From<Error> for Reading {
    fn from(_: Error) -> Reading {
        Reading::Outlet
    }
}

fn read_exact_at(file: BorrowedFd<'_>, mut space: &mut [u8], mut offset: u64) -> Result<(), Reading> {
    while !space.is_empty() {
        match pread(file, &mut *space, offset) {
            Ok(0) => return Err(Reading::Shrunk),
            Ok(count) => {
                space = &mut space[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Reading::Failed(errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    #[test]
    fn frames_are_handed_on_whole_and_many_at_once() {
        let mut batches: Vec<Vec<u8>> = Vec::new();
        let mut frames = Frames::new(7, |batch| {
            batches.push(std::mem::take(batch));
            true
        });
        for _ in 0..1000 {
            frames.frame::<Error>(Kind::CopyData, 1000, |_| Ok(())).unwrap();
        }
        frames.flush().unwrap();
        drop(frames);
        let frame_len = HEADER_LEN + 1000;
        for full in &batches[..batches.len() - 1] {
            assert!(full.len() <= BATCH && full.len() + frame_len > BATCH, "room was left in a batch");
        }
        for batch in &batches {
            assert_eq!(batch.len() % frame_len, 0);
            for frame in batch.chunks(frame_len) {
                let header = Header::decode(frame.first_chunk().unwrap()).unwrap();
                assert_eq!((header.kind, header.id, header.length), (Kind::CopyData, 7, 1000));
            }
        }
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 1000 * frame_len);
    }

    #[test]
    fn what_cannot_be_read_leaves_no_frame() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(10).unwrap();
        let mut sent = Vec::new();
        let mut frames = Frames::new(1, |batch| {
            sent.extend_from_slice(batch);
            true
        });
        let extent = Extent { offset: 0, length: 11 };
        assert_eq!(frames.extent(file.as_fd(), extent), Err(Reading::Shrunk));
        frames.flush().unwrap();
        drop(frames);
        assert!(sent.is_empty());
    }

    #[test]
    fn nobody_who_takes_them_ends_it() {
        let mut frames = Frames::new(1, |_| false);
        frames.frame::<Error>(Kind::CopyData, 1, |_| Ok(())).unwrap();
        assert_eq!(frames.flush(), Err(Error::Outlet));
    }
}
