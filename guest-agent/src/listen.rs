//! The agent's door: a vsock port that only the host may knock at, or a unix socket for tests without a VM.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use firstlight_protocol::port::HOST_CID;
use nix::libc::VMADDR_CID_ANY;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, UnixAddr, VsockAddr, bind, getpeername, listen,
    socket,
};
use tokio::io::Interest;

use crate::sys::{self, Watched};
use crate::wire::Socket;

/// Connections the kernel keeps for us between two accepts; a burst of more gets refused and dials again.
const BACKLOG: i32 = 128;

/// The agent cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {address}: {source}")]
pub struct ListenError {
    operation: &'static str,
    address: Address,
    source: io::Error,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A vsock port, on which peers other than the host are turned away.
    Vsock(u32),
    /// A unix socket, guarded by its directory's permissions and the token alone.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Vsock(port) => write!(f, "vsock port {port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Watched,
    host_only: bool,
}

impl Listener {
    /// Listens at `address`.
    ///
    /// # Errors
    /// [`ListenError`] with the address, such as `EADDRINUSE` when another agent listens there.
    pub fn bind(address: &Address) -> Result<Listener, ListenError> {
        let (socket, host_only) = match address {
            Address::Vsock(port) => (bind_vsock(*port), true),
            Address::Unix(path) => (bind_unix(path), false),
        };
        let error = |operation| move |source| ListenError { operation, address: address.clone(), source };
        let socket = socket.map_err(error("bind"))?;
        let listening = Backlog::new(BACKLOG).and_then(|backlog| listen(&socket, backlog));
        listening.map_err(|errno| error("listen on")(errno.into()))?;
        let socket = sys::watch(socket, Interest::READABLE).map_err(error("watch"))?;
        Ok(Listener { socket, host_only })
    }

    /// The next connection from the host. Connections of other peers are closed unread.
    ///
    /// # Errors
    /// As `accept4(2)`: the listener itself stays good, but `EMFILE` and its like return at once until something is
    /// freed.
    pub async fn accept(&self) -> io::Result<Socket> {
        loop {
            let socket = self.socket.async_io(Interest::READABLE, sys::accept).await?;
            if !self.host_only || is_host(&socket) {
                return Ok(Socket::new(socket));
            }
        }
    }
}

fn is_host(socket: &OwnedFd) -> bool {
    getpeername::<VsockAddr>(socket.as_raw_fd()).is_ok_and(|peer| peer.cid() == HOST_CID)
}

fn bind_vsock(port: u32) -> io::Result<OwnedFd> {
    bind_stream(AddressFamily::Vsock, &VsockAddr::new(VMADDR_CID_ANY, port))
}

fn bind_unix(path: &Path) -> io::Result<OwnedFd> {
    bind_stream(AddressFamily::Unix, &UnixAddr::new(path)?)
}

fn bind_stream(family: AddressFamily, address: &dyn SockaddrLike) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    bind(socket.as_raw_fd(), address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_is_not_the_host_is_closed_unread() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = Listener { host_only: true, ..Listener::bind(&Address::Unix(path.clone())).unwrap() };
        let mut stranger = UnixStream::connect(&path).unwrap();
        // Whoever has no vsock address is no host.
        let closed = tokio::task::spawn_blocking(move || stranger.read(&mut [0]));
        tokio::select! {
            accepted = listener.accept() => panic!("{accepted:?}"),
            read = closed => assert_eq!(read.unwrap().unwrap(), 0),
        }
    }
}
