//! The agent's ends of a command's standard streams.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use tokio::io::Interest;

use crate::sys::{self, Watched};

/// Bytes thrown away in one go: a pipe's usual capacity.
const DISCARD: usize = 64 * 1024;

/// The reading end of a command's standard output or error.
#[derive(Debug)]
pub struct OutputPipe(Watched);

/// The writing end of a command's standard input.
#[derive(Debug)]
pub struct InputPipe(Watched);

/// A pipe's two ends are separate descriptions, so the command's own end keeps blocking.
fn nonblocking(pipe: OwnedFd) -> io::Result<OwnedFd> {
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(pipe)
}

impl OutputPipe {
    /// # Errors
    /// As `fcntl(2)` and `epoll_ctl(2)`.
    pub(super) fn new(pipe: OwnedFd) -> io::Result<OutputPipe> {
        sys::watch(nonblocking(pipe)?, Interest::READABLE).map(OutputPipe)
    }

    /// Waits for bytes; 0 is the end.
    ///
    /// # Errors
    /// As `read(2)`.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.async_io(Interest::READABLE, |pipe| Ok(nix::unistd::read(pipe, buffer)?)).await
    }

    /// Waits for bytes and lets `take` have them, which calls [`Readable::read_now`].
    ///
    /// # Errors
    /// What `take` says.
    pub async fn read_with<T>(&self, mut take: impl FnMut(&Readable<'_>) -> io::Result<T>) -> io::Result<T> {
        self.0.async_io(Interest::READABLE, |pipe| take(&Readable(pipe))).await
    }

    /// Bytes in the pipe at this moment.
    ///
    /// # Errors
    /// As `ioctl(2)`.
    pub fn buffered(&self) -> io::Result<usize> {
        sys::bytes_in_pipe(&self.0)
    }

    /// Throws away what comes until the last writer is gone. A pipe that cannot be read is as good as ended.
    pub(super) async fn discard(self) {
        let Ok(nowhere) = OpenOptions::new().write(true).open("/dev/null") else { return };
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK;
        loop {
            let moved = self
                .0
                .async_io(Interest::READABLE, |pipe| Ok(splice(pipe, None, &nowhere, None, DISCARD, flags)?));
            if !moved.await.is_ok_and(|count| count > 0) {
                return;
            }
        }
    }
}

/// A pipe that seems to have bytes.
#[derive(Debug)]
pub struct Readable<'a>(&'a OwnedFd);

impl Readable<'_> {
    /// Reads without waiting; 0 is the end.
    ///
    /// # Errors
    /// `EAGAIN` when there is nothing after all; otherwise as `read(2)`.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(self.0, buffer)?)
    }
}

impl InputPipe {
    /// # Errors
    /// As `fcntl(2)` and `epoll_ctl(2)`.
    pub(super) fn new(pipe: OwnedFd) -> io::Result<InputPipe> {
        sys::watch(nonblocking(pipe)?, Interest::WRITABLE).map(InputPipe)
    }

    /// Waits until something can be written, and writes what `next` then gives, or some of it. Gives how much that was.
    ///
    /// # Errors
    /// `EPIPE` when nobody can read any more; otherwise as `write(2)`.
    pub async fn write_some<B: AsRef<[u8]>>(&self, next: impl Fn() -> B) -> io::Result<usize> {
        self.0.async_io(Interest::WRITABLE, |pipe| Ok(nix::unistd::write(pipe, next().as_ref())?)).await
    }
}
