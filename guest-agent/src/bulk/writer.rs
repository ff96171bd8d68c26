//! Sending files and what is said of them.

use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd};

use firstlight_protocol::codec::{self, CodecError};
use firstlight_protocol::frame::Header;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::copy::{CHUNK, Entry, Extent};
use firstlight_tree::{Error, Outlet, Reading};
use nix::errno::Errno;
use nix::libc::off_t;
use nix::poll::PollFlags;
use nix::sys::sendfile::sendfile;
use nix::sys::uio::{pread, writev};
use nix::unistd::write;

use super::Waiting;
use crate::wire::WireError;

/// Bytes collected before they are sent, so that small files do not cost a system call each. Files up to this size
/// are read into it; larger ones go from the page cache to the socket by `sendfile(2)`.
const BUFFER: usize = 64 * 1024;

/// The sending end of a copy.
#[derive(Debug)]
pub struct BulkWriter {
    socket: Waiting,
    id: u64,
    buffer: Vec<u8>,
    broken: Option<WireError>,
}

impl BulkWriter {
    /// Sends under the id of the request that asked for the copy.
    #[must_use]
    pub fn new(socket: OwnedFd, id: u64) -> BulkWriter {
        BulkWriter { socket: Waiting { socket }, id, buffer: Vec::with_capacity(BUFFER), broken: None }
    }

    /// Sends what is collected. All frames are whole then.
    ///
    /// # Errors
    /// [`WireError`], also when sending failed earlier.
    pub fn finish(mut self) -> Result<(), WireError> {
        match self.broken.take() {
            Some(error) => Err(error),
            None => self.flush(&[]),
        }
    }

    /// Sends a message that is no part of a file.
    ///
    /// # Errors
    /// [`Error::Outlet`] when it cannot be sent; [`BulkWriter::finish`] then says why.
    pub fn message(&mut self, kind: Kind, message: Result<Vec<u8>, CodecError>) -> Result<(), Error> {
        let sent =
            message.map_err(WireError::from).and_then(|payload| self.begin(kind, payload.len(), &payload));
        sent.map_err(|error| {
            self.broken(error);
            Error::Outlet
        })
    }

    /// Adds a frame's header, and whatever payload is not a file's.
    fn begin(&mut self, kind: Kind, length: usize, payload: &[u8]) -> Result<(), WireError> {
        let header = Header::new(kind, self.id, length)?.encode();
        if self.buffer.len() + header.len() + payload.len() > BUFFER {
            self.flush(&[])?;
        }
        self.buffer.extend_from_slice(&header);
        if self.buffer.len() + payload.len() > BUFFER {
            return self.flush(payload);
        }
        self.buffer.extend_from_slice(payload);
        Ok(())
    }

    /// Sends what is collected, and `rest` after it.
    fn flush(&mut self, mut rest: &[u8]) -> Result<(), WireError> {
        let mut collected = self.buffer.as_slice();
        while !(collected.is_empty() && rest.is_empty()) {
            let parts = [IoSlice::new(collected), IoSlice::new(rest)];
            let written = self.socket.until(PollFlags::POLLOUT, "write", |socket| writev(socket, &parts))?;
            let of_collected = written.min(collected.len());
            collected = &collected[of_collected..];
            rest = &rest[written - of_collected..];
        }
        self.buffer.clear();
        Ok(())
    }

    /// Sends one frame of a file, whole whatever happens: what cannot be read is made up, and told after it.
    fn chunk(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        length: usize,
    ) -> Result<Result<(), Reading>, WireError> {
        if length + self.buffer.len() <= BUFFER / 2 {
            return self.small_chunk(file, offset, length);
        }
        self.begin(Kind::CopyData, length, &[])?;
        self.flush(&[])?;
        let (sent, read) = self.send_file(file, offset, length)?;
        if read.is_err() {
            self.flush(&vec![0; length - sent])?;
        }
        Ok(read)
    }

    fn small_chunk(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        length: usize,
    ) -> Result<Result<(), Reading>, WireError> {
        let mut bytes = vec![0; length];
        let read = read_at(file, &mut bytes, offset);
        self.begin(Kind::CopyData, length, &bytes)?;
        Ok(match read {
            Ok(count) if count == length => Ok(()),
            Ok(_) => Err(Reading::Shrunk),
            Err(errno) => Err(Reading::Failed(failed(errno))),
        })
    }

    /// Sends from the file, and gives how much was sent, and whether that is all.
    fn send_file(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        length: usize,
    ) -> Result<(usize, Result<(), Reading>), WireError> {
        let mut sent = 0;
        while sent < length {
            let mut at = position(offset + sent as u64);
            let mut unreadable = None;
            let count = self.socket.until(PollFlags::POLLOUT, "write", |socket| {
                match sendfile(socket, file, Some(&mut at), length - sent) {
                    // The file is of a kind that sendfile cannot read, or it cannot be read at all.
                    Err(errno @ (Errno::EINVAL | Errno::EIO)) => {
                        unreadable = Some(errno);
                        Ok(0)
                    }
                    count => count,
                }
            })?;
            let count = match (count, unreadable) {
                (0, Some(Errno::EINVAL)) => {
                    match self.copy_once(file, offset + sent as u64, length - sent)? {
                        Ok(count) => count,
                        Err(errno) => return Ok((sent, Err(Reading::Failed(failed(errno))))),
                    }
                }
                (0, Some(errno)) => return Ok((sent, Err(Reading::Failed(failed(errno))))),
                (count, _) => count,
            };
            if count == 0 {
                return Ok((sent, Err(Reading::Shrunk)));
            }
            sent += count;
        }
        Ok((sent, Ok(())))
    }

    /// Sends a little of a file that `sendfile(2)` does not take, as those of `/proc`.
    fn copy_once(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        length: usize,
    ) -> Result<Result<usize, Errno>, WireError> {
        let mut bytes = [0; 4096];
        let wanted = length.min(bytes.len());
        let count = match read_at(file, &mut bytes[..wanted], offset) {
            Ok(count) => count,
            Err(errno) => return Ok(Err(errno)),
        };
        let mut written = 0;
        while written < count {
            let rest = &bytes[written..count];
            written += self.socket.until(PollFlags::POLLOUT, "write", |socket| write(socket, rest))?;
        }
        Ok(Ok(count))
    }

    fn broken(&mut self, error: WireError) {
        self.broken.get_or_insert(error);
    }
}

impl Outlet for BulkWriter {
    fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        self.message(Kind::CopyEntry, codec::encode(entry))
    }

    fn extent(&mut self, file: BorrowedFd<'_>, extent: Extent) -> Result<(), Reading> {
        let mut done = 0;
        while done < extent.length {
            let length = usize::try_from(extent.length - done).map_or(CHUNK, |left| left.min(CHUNK));
            match self.chunk(file, extent.offset + done, length) {
                Ok(read) => read?,
                Err(error) => {
                    self.broken(error);
                    return Err(Reading::Outlet);
                }
            }
            done += length as u64;
        }
        Ok(())
    }
}

/// Reads until the buffer is full or the file ends.
fn read_at(file: BorrowedFd<'_>, bytes: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < bytes.len() {
        match pread(file, &mut bytes[filled..], position(offset + filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(filled)
}

/// No file of Linux is longer than its offsets.
fn position(offset: u64) -> off_t {
    off_t::try_from(offset).unwrap_or(off_t::MAX)
}

fn failed(errno: Errno) -> firstlight_tree::Errno {
    firstlight_tree::Errno::from_raw_os_error(errno as i32)
}
