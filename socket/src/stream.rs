//! One connected socket.

use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;

use firstlight_protocol::message::forward::Address;
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{Shutdown, setsockopt, shutdown};
use tokio::net::{TcpStream, UnixStream};

/// A connected socket. Dropped before [`Stream::finish`], a TCP connection is reset, even by our own death: what was
/// cut short must not look like what ended.
#[derive(Debug)]
pub enum Stream {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A connection of a unix socket.
    Unix(UnixStream),
}

impl Stream {
    /// Connects to `target`, for as long as it takes.
    ///
    /// # Errors
    /// As `connect(2)`.
    pub async fn connect(target: &Address) -> io::Result<Stream> {
        match target {
            Address::Loopback(port) => {
                let connected = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await;
                let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
                match connected {
                    Err(first) if refused(&first) => {
                        // Without IPv6 in the guest the second error would only say so.
                        let second = TcpStream::connect((Ipv6Addr::LOCALHOST, *port)).await;
                        Stream::tcp(second.map_err(|_| first)?)
                    }
                    connected => Stream::tcp(connected?),
                }
            }
            Address::Tcp(address) => Stream::tcp(TcpStream::connect(address).await?),
            Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(OsStr::from_bytes(path)).await?)),
        }
    }

    /// Takes a TCP connection over.
    pub(crate) fn tcp(stream: TcpStream) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        stream.set_zero_linger()?;
        Ok(Stream::Tcp(stream))
    }

    /// Waits for bytes, the end or an error.
    ///
    /// # Errors
    /// None of the connection's own: [`Stream::try_read`] has those.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.readable().await,
            Stream::Unix(stream) => stream.readable().await,
        }
    }

    /// Reads what is there; 0 is the end.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing yet; otherwise as `read(2)`, `ECONNRESET` above all.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_read(buffer),
            Stream::Unix(stream) => stream.try_read(buffer),
        }
    }

    /// Writes all of `bytes`, waiting for the peer to take them.
    ///
    /// # Errors
    /// `EPIPE` or `ECONNRESET` when the peer takes no more; otherwise as `write(2)`.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Stream::Tcp(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
                Stream::Unix(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
            };
            match written {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells the peer that no more comes.
    ///
    /// # Errors
    /// `ENOTCONN` when the peer has reset the connection.
    pub fn end(&self) -> io::Result<()> {
        Ok(shutdown(self.as_fd().as_raw_fd(), Shutdown::Write)?)
    }

    /// Closes a connection that both sides have ended; what the kernel still holds is delivered.
    pub fn finish(self) {
        let off = nix::libc::linger { l_onoff: 0, l_linger: 0 };
        // It fails only on what is no socket.
        let _ = setsockopt(&self, Linger, &off);
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Tcp(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Listener;

    /// Two ends of one connection.
    async fn pair() -> (Stream, Stream) {
        let listener = Listener::bind(&Address::Loopback(0), 0).await.unwrap();
        let address = listener.address().unwrap();
        let connected = Stream::connect(&address).await.unwrap();
        (connected, listener.accept().await.unwrap())
    }

    async fn read(stream: &Stream) -> io::Result<usize> {
        loop {
            stream.readable().await?;
            match stream.try_read(&mut [0; 64]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_dropped_is_reset() {
        let (ours, theirs) = pair().await;
        drop(ours);
        assert_eq!(read(&theirs).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_connection_that_is_finished_delivers_what_was_sent() {
        let (ours, theirs) = pair().await;
        ours.write_all(b"last words").await.unwrap();
        ours.end().unwrap();
        ours.finish();
        assert_eq!(read(&theirs).await.unwrap(), 10);
        assert_eq!(read(&theirs).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn each_direction_ends_on_its_own() {
        let (ours, theirs) = pair().await;
        ours.end().unwrap();
        assert_eq!(read(&theirs).await.unwrap(), 0);
        theirs.write_all(b"answer").await.unwrap();
        assert_eq!(read(&ours).await.unwrap(), 6);
    }
}
