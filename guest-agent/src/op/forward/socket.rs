//! The guest's end of a carried connection, and what listens for some.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use firstlight_protocol::message::forward::Address;
use nix::errno::Errno;
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{Shutdown, setsockopt, shutdown};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::process::path_of;

/// A unix socket in the guest is for whoever runs there, as a port of the loopback is.
const SOCKET_MODE: u32 = 0o666;

/// A connected socket. Dropped before [`Stream::finish`], a TCP connection is reset, even by the agent's death: what was
/// cut short must not look like what ended.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to `target`.
    pub(super) async fn connect(target: &Address) -> io::Result<Stream> {
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
            Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path_of(path)).await?)),
        }
    }

    fn tcp(stream: TcpStream) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        stream.set_zero_linger()?;
        Ok(Stream::Tcp(stream))
    }

    /// Waits for bytes, the end or an error.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.readable().await,
            Stream::Unix(stream) => stream.readable().await,
        }
    }

    /// Reads what is there; 0 is the end, and `WouldBlock` nothing yet.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_read(buffer),
            Stream::Unix(stream) => stream.try_read(buffer),
        }
    }

    /// Writes all of `bytes`, waiting for the peer to take them.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
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
    pub(super) fn end(&self) -> io::Result<()> {
        Ok(shutdown(self.as_fd().as_raw_fd(), Shutdown::Write)?)
    }

    /// Closes a connection that both sides have ended; what the kernel still holds is delivered.
    pub(super) fn finish(self) {
        let off = libc::linger { l_onoff: 0, l_linger: 0 };
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

/// A listening socket. Dropping it removes a unix socket's file, if it is still the one it made.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, file: SocketFile },
}

impl Listener {
    /// Listens at `address`.
    pub(super) async fn bind(address: &Address) -> io::Result<Listener> {
        match address {
            Address::Loopback(port) => {
                Ok(Listener::Tcp(TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).await?))
            }
            Address::Tcp(address) => Ok(Listener::Tcp(TcpListener::bind(address).await?)),
            Address::Unix(path) => {
                let path = path_of(path);
                let listener = bind_unix(path).await?;
                let file = SocketFile::of(path)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
                Ok(Listener::Unix { listener, file })
            }
        }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> io::Result<Address> {
        match self {
            Listener::Tcp(listener) => {
                let address = listener.local_addr()?;
                let loopback = address.ip() == Ipv4Addr::LOCALHOST;
                Ok(if loopback { Address::Loopback(address.port()) } else { Address::Tcp(address) })
            }
            Listener::Unix { file, .. } => {
                Ok(Address::Unix(file.path.as_os_str().as_encoded_bytes().to_vec()))
            }
        }
    }

    /// The next connection. Safe to drop and call again.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => Stream::tcp(listener.accept().await?.0),
            Listener::Unix { listener, .. } => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix { listener, .. } => listener.as_fd(),
        }
    }
}

/// Takes the place of a socket that nobody listens on any more, as an agent that was killed leaves behind.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let taken = match UnixListener::bind(path) {
        Err(error) if error.raw_os_error() == Some(Errno::EADDRINUSE as i32) => error,
        bound => return bound,
    };
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let connected = UnixStream::connect(path).await;
    let abandoned = connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if !(is_socket && abandoned) {
        return Err(taken);
    }
    std::fs::remove_file(path)?;
    UnixListener::bind(path)
}

/// The file of a unix socket, removed with its listener.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody else may have put a file of theirs in its place.
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A file's device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}
