//! Taking a copy's stream apart as it arrives.

use firstlight_protocol::codec;
use firstlight_protocol::frame::{HEADER_LEN, Header};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{Entry, Totals};
use nix::poll::PollFlags;
use nix::unistd::read;

use super::Waiting;
use crate::sys;
use crate::wire::{Socket, WireError};

/// Bytes read in one go: one frame of data with its header, and as much again of what follows.
const BUFFER: usize = 256 * 1024;

/// Bytes that a host may send ahead of what was read, as the kernel has it: `VIRTIO_VSOCK_DEFAULT_BUF_SIZE`.
const WINDOW: u64 = 256 * 1024;

/// The same for a copy that has the vsock to itself. All that comes in goes through one queue, so what one connection has in it
/// delays the others: beside other copies the window stays as it is.
const WIDE_WINDOW: u64 = 512 * 1024;

/// What comes next.
#[derive(Debug)]
pub enum Piece<'a> {
    /// A file, directory or link.
    Entry(Entry),
    /// Bytes of the file whose entry came last.
    Data(&'a [u8]),
    /// The stream is whole.
    End(Totals),
    /// A frame that has no place in a copy.
    Unexpected(Kind),
}

/// The receiving end of a copy.
#[derive(Debug)]
pub struct BulkReader {
    socket: Waiting,
    id: u64,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of a data frame that have not been given out.
    in_frame: usize,
}

impl BulkReader {
    /// Reads what comes under the id of the request that announced the copy.
    #[must_use]
    pub fn new(socket: Socket, id: u64) -> BulkReader {
        BulkReader { socket: Waiting { socket }, id, buffer: vec![0; BUFFER], start: 0, end: 0, in_frame: 0 }
    }

    /// Lets the host send further ahead, so that it need not stop whenever a file is written, until [`BulkReader::narrow`].
    pub fn widen(&self) {
        // Other sockets have no window, and without a wide one the copy is only slower.
        let _ = sys::set_vsock_window(&self.socket.socket, WIDE_WINDOW);
    }

    /// Takes [`BulkReader::widen`] back. Only when the host has nothing under way: what does not fit in a window is dropped.
    pub fn narrow(&self) {
        let _ = sys::set_vsock_window(&self.socket.socket, WINDOW);
    }

    /// Whether everything that was read has been given out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Waits for the next piece. Data comes as it arrives, in pieces smaller than its frames or as large.
    ///
    /// # Errors
    /// [`WireError`] when the stream broke off or is none.
    pub fn piece(&mut self) -> Result<Piece<'_>, WireError> {
        while self.in_frame == 0 {
            self.fill(HEADER_LEN)?;
            let Some(header) = self.buffer[self.start..].first_chunk() else {
                return Err(WireError::Truncated);
            };
            let header = Header::decode(header)?;
            self.start += HEADER_LEN;
            let length = header.length as usize;
            if header.id != self.id {
                return Ok(Piece::Unexpected(header.kind));
            }
            if header.kind == Kind::CopyData {
                self.in_frame = length;
            } else if header.kind == Kind::CopyEntry {
                return Ok(Piece::Entry(codec::decode(&self.payload(length)?)?));
            } else if header.kind == Kind::CopyEnd {
                return Ok(Piece::End(codec::decode(&self.payload(length)?)?));
            } else {
                return Ok(Piece::Unexpected(header.kind));
            }
        }
        self.fill(1)?;
        let count = self.in_frame.min(self.end - self.start);
        let data = self.start..self.start + count;
        self.start += count;
        self.in_frame -= count;
        Ok(Piece::Data(&self.buffer[data]))
    }

    /// A whole payload. Memory for it grows as it arrives, whatever its header claims.
    fn payload(&mut self, length: usize) -> Result<Vec<u8>, WireError> {
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
    fn fill(&mut self, wanted: usize) -> Result<(), WireError> {
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
                return Err(WireError::Truncated);
            }
            self.end += count;
        }
        Ok(())
    }
}
