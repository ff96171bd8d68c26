//! Taking a copy's stream apart as it arrives.

use std::os::fd::AsFd;

use firstlight_protocol::codec;
use firstlight_protocol::frame::{HEADER_LEN, Header};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{Entry, Totals};
use nix::poll::PollFlags;
use nix::unistd::read;

use super::{BulkError, Waiting};

/// Bytes read in one go: one frame of data with its header, and as much again of what follows.
const BUFFER: usize = 256 * 1024;

/// What comes next.
#[derive(Debug)]
pub enum Piece<'a> {
    /// A file, directory or link.
    Entry(Entry),
    /// Bytes of the file whose entry came last.
    Data(&'a [u8]),
    /// The stream is whole.
    End(Totals),
    /// A frame that is no part of the copy. What is in it comes next, and [`BulkReader::payload`] takes it.
    Other(Header),
}

/// The receiving end of a copy.
#[derive(Debug)]
pub struct BulkReader<S> {
    socket: Waiting<S>,
    id: u64,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of a data frame that have not been given out.
    in_frame: usize,
}

impl<S: AsFd> BulkReader<S> {
    /// Reads what comes under the id of the request that announced the copy.
    #[must_use]
    pub fn new(socket: S, id: u64) -> BulkReader<S> {
        BulkReader { socket: Waiting { socket }, id, buffer: vec![0; BUFFER], start: 0, end: 0, in_frame: 0 }
    }

    /// Goes on with what comes under the id of another request, when the copy before it has ended.
    pub fn follow(&mut self, id: u64) {
        self.id = id;
    }

    /// Whether everything that was read has been given out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Waits for the next piece. Data comes as it arrives, in pieces smaller than its frames or as large.
    ///
    /// # Errors
    /// [`BulkError`] when the stream broke off or is none.
    pub fn piece(&mut self) -> Result<Piece<'_>, BulkError> {
        while self.in_frame == 0 {
            self.fill(HEADER_LEN)?;
            let Some(header) = self.buffer[self.start..].first_chunk() else {
                return Err(BulkError::Truncated);
            };
            let header = Header::decode(header)?;
            self.start += HEADER_LEN;
            let length = header.length as usize;
            if header.id != self.id {
                return Ok(Piece::Other(header));
            }
            if header.kind == Kind::CopyData {
                self.in_frame = length;
            } else if header.kind == Kind::CopyEntry {
                return Ok(Piece::Entry(codec::decode(&self.payload(length)?)?));
            } else if header.kind == Kind::CopyEnd {
                return Ok(Piece::End(codec::decode(&self.payload(length)?)?));
            } else {
                return Ok(Piece::Other(header));
            }
        }
        self.fill(1)?;
        let count = self.in_frame.min(self.end - self.start);
        let data = self.start..self.start + count;
        self.start += count;
        self.in_frame -= count;
        Ok(Piece::Data(&self.buffer[data]))
    }

    /// A whole payload of so many bytes. Memory for it grows as it arrives, whatever its header claims.
    ///
    /// # Errors
    /// As [`BulkReader::piece`].
    pub fn payload(&mut self, length: usize) -> Result<Vec<u8>, BulkError> {
        let mut payload = Vec::new();
        while payload.len() < length {
            self.fill(1)?;
            let count = (length - payload.len()).min(self.end - self.start);
            payload.extend_from_slice(&self.buffer[self.start..self.start + count]);
            self.start += count;
        }
        Ok(payload)
    }

    /// Reads until there are at least `wanted` bytes, which is no more than a header.
    fn fill(&mut self, wanted: usize) -> Result<(), BulkError> {
        if self.end - self.start >= wanted {
            return Ok(());
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < wanted {
            let space = &mut self.buffer[self.end..];
            let count = self.socket.until(PollFlags::POLLIN, "read", |socket| read(socket, space))?;
            if count == 0 {
                return Err(BulkError::Truncated);
            }
            self.end += count;
        }
        Ok(())
    }
}
