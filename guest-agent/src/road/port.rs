//! A virtio-serial port as a stream of bytes. Source: `drivers/char/virtio_console.c` in the kernel.
//!
//! A port hangs up while nobody is at the host's end, and goes on when somebody is. For tokio's own watching a hang-up is
//! final, so the port is watched through an epoll of ours, edge by edge, and tokio watches that.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::stat::Mode;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

use crate::sys::{self, Watched};

/// An open port, which is nobody else's meanwhile: the kernel opens each once. For one task alone.
#[derive(Debug)]
pub struct Port {
    device: OwnedFd,
    epoll: Epoll,
    /// The epoll's descriptor, readable when something has happened to the port.
    edges: Watched,
    /// Whether the hang-up that lasts has been told.
    hung_up: bool,
}

impl Port {
    /// Opens the port.
    ///
    /// # Errors
    /// As `open(2)` and `epoll_create1(2)`.
    pub fn open(device: &Path) -> io::Result<Port> {
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        Port::new(open(device, flags, Mode::empty())?)
    }

    /// A port that is open, and does not block.
    fn new(device: OwnedFd) -> io::Result<Port> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let edges = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        epoll.add(&device, EpollEvent::new(edges, 0))?;
        let edges = sys::watch(epoll.0.try_clone()?, Interest::READABLE)?;
        Ok(Port { device, epoll, edges, hung_up: false })
    }

    /// Waits until something has happened that may let a call succeed which did not.
    fn poll_edge(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.edges.poll_read_ready(cx))?;
            if self.epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO)? > 0 {
                // It may be what the other direction waits for, which is of the same task.
                cx.waker().wake_by_ref();
                return Poll::Ready(Ok(()));
            }
            ready.clear_ready();
        }
    }
}

impl AsyncRead for Port {
    /// Fails with `ConnectionReset` once for each time that the host's end is left.
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match nix::unistd::read(&self.device, buffer.initialize_unfilled()) {
                Ok(0) if !self.hung_up => {
                    self.hung_up = true;
                    return Poll::Ready(Err(Errno::ECONNRESET.into()));
                }
                Ok(0) | Err(Errno::EAGAIN) => ready!(self.poll_edge(cx))?,
                Ok(count) => {
                    self.hung_up = false;
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match nix::unistd::write(&self.device, bytes) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(Errno::EAGAIN) => ready!(self.poll_edge(cx))?,
                Err(Errno::EINTR) => {}
                Err(errno) => return Poll::Ready(Err(errno.into())),
            }
        }
    }

    /// The kernel keeps nothing back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A port has no end that could be told.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A socket in the port's place: it has a hang-up too, though a final one.
    pub(in crate::road) fn port() -> (Port, UnixStream) {
        let (device, host) = UnixStream::pair().unwrap();
        device.set_nonblocking(true).unwrap();
        (Port::new(device.into()).unwrap(), host)
    }

    #[tokio::test]
    async fn a_task_that_waits_is_woken_in_either_direction() {
        let (port, mut host) = port();
        let (mut reader, mut writer) = tokio::io::split(port);
        let bytes = vec![5; 1 << 20];
        let expected = bytes.clone();
        let host = tokio::task::spawn_blocking(move || {
            let mut heard = vec![0; 1 << 20];
            host.read_exact(&mut heard).unwrap();
            host.write_all(&heard).unwrap();
            host
        });
        let mut heard = vec![0; bytes.len()];
        // Both in one task, as the multiplexer does it.
        let (wrote, read) = tokio::join!(writer.write_all(&bytes), reader.read_exact(&mut heard));
        wrote.unwrap();
        read.unwrap();
        assert!(heard == expected);
        host.await.unwrap();
    }

    #[tokio::test]
    async fn a_hang_up_is_told_once() {
        let (mut port, host) = port();
        drop(host);
        let told = port.read(&mut [0]).await.unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::ConnectionReset);
        let mut byte = [0];
        let again = port.read(&mut byte);
        tokio::select! {
            read = again => panic!("{read:?}"),
            () = tokio::task::yield_now() => {}
        }
    }
}
