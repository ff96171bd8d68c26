//! One stream: a pipe on one side, a memfd that remembers on the other.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use firstlight_protocol::agent_config::OutputDescriptors;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, SpliceFFlags, fallocate, fcntl, splice};
use nix::unistd::{Whence, lseek};
use tokio::io::Interest;

use crate::sys::{self, Watched};

/// Bytes moved in one go: a pipe's usual capacity.
const MOVE: u64 = 64 * 1024;

/// Memory is given back in pieces of this many bytes, so that a chatty program does not cost a system call a line.
const PUNCH: u64 = 64 * 1024;

/// A stream's two descriptors. Their state is the kernel's and survives the agent; see
/// [`OutputDescriptors`].
#[derive(Debug)]
pub(super) struct StreamLog {
    pipe: Watched,
    log: File,
}

impl StreamLog {
    /// Takes over the descriptors, and gives how many bytes the stream had before.
    pub(super) fn adopt(descriptors: &OutputDescriptors) -> io::Result<(StreamLog, u64)> {
        let pipe = sys::adopt_descriptor(descriptors.pipe)?;
        let log = sys::adopt_descriptor(descriptors.log)?;
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let end = lseek(&log, 0, Whence::SeekCur)?;
        let log = StreamLog { pipe: sys::watch(pipe, Interest::READABLE)?, log: log.into() };
        Ok((log, u64::try_from(end).unwrap_or(0)))
    }

    /// Moves bytes from the pipe to the log: at most as many as `room` says at the moment they are there. `None` when there
    /// was no room after all, 0 at the stream's end.
    ///
    /// The log's own file position is used and never set: the kernel moves it together with the bytes.
    pub(super) async fn move_bytes(&self, room: impl Fn() -> u64) -> io::Result<Option<u64>> {
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        let mut splice_some = |pipe: &OwnedFd| {
            let length = usize::try_from(room().min(MOVE)).unwrap_or(0);
            if length == 0 {
                return Ok(None);
            }
            let count = splice(pipe, None, &self.log, None, length, flags)?;
            Ok(Some(count as u64))
        };
        self.pipe.async_io(Interest::READABLE, &mut splice_some).await
    }

    /// Gives back the memory of what is before `oldest`, now that the log grew from `before` bytes to `after`.
    pub(super) fn forget(&self, oldest: u64, before: u64, after: u64) -> io::Result<()> {
        if oldest == 0 || before / PUNCH == after / PUNCH {
            return Ok(());
        }
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&self.log, flags, 0, i64::try_from(oldest).unwrap_or(i64::MAX))?;
        Ok(())
    }

    /// Reads kept bytes from `sequence` on. Leaves the file position alone.
    pub(super) fn read(&self, sequence: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.log.read_exact_at(&mut bytes, sequence)?;
        Ok(bytes)
    }
}
