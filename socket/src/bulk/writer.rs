//! Sending batches of frames.

use std::collections::VecDeque;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::unistd::write;

use super::{BulkError, Waiting};

/// The least that is written at once: a page, which the kernel can always find.
const SMALLEST_WRITE: usize = 4096;

/// Batches that wait for the peer while the next one is made. Whoever sends is told how much may be sent only now and then, and what was
/// read from a disk meanwhile goes out at once; with batches of 64 KiB this is what a guest may send ahead.
const AHEAD: usize = 4;

/// The sending end of a copy. A file's bytes are read into a batch and written from there: `sendfile(2)` would save that
/// one copy of them, but takes them through a pipe page by page, which makes a packet of each on a vsock.
#[derive(Debug)]
pub struct BulkWriter<S> {
    socket: Waiting<S>,
    batches: VecDeque<Vec<u8>>,
    /// Bytes of the first batch that were written.
    written: usize,
    /// Batches that were written, to be filled again.
    spare: Vec<Vec<u8>>,
    broken: Option<BulkError>,
}

impl<S: AsFd> BulkWriter<S> {
    /// Writes to this socket, which must not block.
    #[must_use]
    pub fn new(socket: S) -> BulkWriter<S> {
        let (batches, spare) = (VecDeque::new(), Vec::new());
        BulkWriter { socket: Waiting { socket }, batches, written: 0, spare, broken: None }
    }

    /// Takes a batch, and leaves another's memory in its place. Waits while too many are not written. False when the
    /// connection is broken.
    pub fn write(&mut self, batch: &mut Vec<u8>) -> bool {
        let spare = self.spare.pop().unwrap_or_default();
        self.batches.push_back(std::mem::replace(batch, spare));
        self.send_but(AHEAD).map_err(|error| self.broken = Some(error)).is_ok()
    }

    /// Writes what was taken.
    ///
    /// # Errors
    /// What broke the connection.
    pub fn finish(mut self) -> Result<(), BulkError> {
        self.broken.take().map_or(Ok(()), Err)?;
        self.send_but(0)
    }

    /// Writes as many batches as the peer takes, and waits until no more than `ahead` are left.
    fn send_but(&mut self, ahead: usize) -> Result<(), BulkError> {
        while let Some(batch) = self.batches.front() {
            let write = |socket: &S| match write_as_fits(socket, &batch[self.written..]) {
                Err(Errno::EAGAIN) if self.batches.len() <= ahead => Ok(None),
                written => written.map(Some),
            };
            let Some(count) = self.socket.until(PollFlags::POLLOUT, "write", write)? else { break };
            self.written += count;
            if self.written == batch.len() {
                self.written = 0;
                self.spare.extend(self.batches.pop_front());
            }
        }
        Ok(())
    }
}

/// Writes what fits in the kernel's memory. A vsock wants each packet's bytes in one piece, of which a guest whose memory is full of cached
/// files has no large ones left; the write then fails with `ENOMEM`, where half of it may do.
///
/// # Errors
/// As `write(2)`; `ENOMEM` when there is not even room for a page.
pub fn write_as_fits(socket: &impl AsFd, bytes: &[u8]) -> Result<usize, Errno> {
    let mut length = bytes.len();
    loop {
        match write(socket, &bytes[..length]) {
            Err(Errno::ENOMEM) if length > SMALLEST_WRITE => length = (length / 2).max(SMALLEST_WRITE),
            written => return written,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    const BATCH: usize = 64 * 1024;

    #[test]
    fn batches_are_taken_ahead_of_a_peer_that_takes_none() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut full = 0;
        while let Ok(count) = write(&ours, &[0; BATCH]) {
            full += count;
        }
        let (taken, told) = channel();
        let writer = std::thread::spawn(move || {
            let mut writer = BulkWriter::new(&ours);
            for number in 1..=AHEAD {
                assert!(writer.write(&mut vec![u8::try_from(number).unwrap(); BATCH]));
            }
            taken.send(()).unwrap();
            writer.finish().unwrap();
        });
        told.recv_timeout(Duration::from_secs(30)).expect("the batches to be taken");
        let mut heard = Vec::new();
        theirs.by_ref().take(full as u64).read_to_end(&mut heard).unwrap();
        heard.clear();
        theirs.read_to_end(&mut heard).unwrap();
        writer.join().unwrap();
        let sent: Vec<u8> =
            (1..=AHEAD).flat_map(|number| vec![u8::try_from(number).unwrap(); BATCH]).collect();
        assert!(heard == sent, "{} bytes of {}", heard.len(), sent.len());
    }

    #[test]
    fn a_peer_that_has_gone_ends_it() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let mut writer = BulkWriter::new(&ours);
        assert!(!writer.write(&mut vec![0; BATCH]));
        assert!(matches!(writer.finish(), Err(BulkError::Io { operation: "write", .. })));
    }
}
