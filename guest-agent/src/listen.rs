//! The agent's door: a vsock port that only the host may knock at, a virtio-serial port that only the host has the other end
//! of, or a unix socket for tests without a VM.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use firstlight_protocol::agent_config::AgentConfig;
use firstlight_protocol::boot_spec::Transport;
use firstlight_protocol::port::{HOST_CID, serial};
use nix::libc::VMADDR_CID_ANY;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, UnixAddr, VsockAddr, bind, getpeername, listen,
    socket,
};
use tokio::io::Interest;

use crate::road::Road;
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
    /// A virtio-serial port by its number, which the kernel lets one process open at a time.
    Serial(u32),
    /// A unix socket, guarded by its directory's permissions and the token alone.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Vsock(port) => write!(f, "vsock port {port}"),
            Address::Serial(port) => write!(f, "virtio-serial port {port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Address {
    /// Where init wants the agent to listen.
    #[must_use]
    pub fn of(config: &AgentConfig) -> Address {
        match config.transport {
            Transport::Vsock => Address::Vsock(config.port),
            Transport::Serial => Address::Serial(serial::AGENT),
        }
    }
}

/// Where connections come in.
#[derive(Debug)]
pub enum Listener {
    /// By a listening socket.
    Socket {
        /// The socket.
        socket: Watched,
        /// Whether its peers have addresses, of which the host's alone is good.
        host_only: bool,
    },
    /// Over a port.
    Road(Road),
}

impl Listener {
    /// Listens at `address`.
    ///
    /// # Errors
    /// [`ListenError`] with the address, such as `EADDRINUSE` when another agent listens there.
    pub async fn bind(address: &Address) -> Result<Listener, ListenError> {
        let error = |operation| move |source| ListenError { operation, address: address.clone(), source };
        let (socket, host_only) = match address {
            Address::Vsock(port) => (bind_vsock(*port), true),
            Address::Serial(port) => {
                return Ok(Listener::Road(Road::open(*port).await.map_err(error("open"))?));
            }
            Address::Unix(path) => (bind_unix(path), false),
        };
        let socket = socket.map_err(error("bind"))?;
        let listening = Backlog::new(BACKLOG).and_then(|backlog| listen(&socket, backlog));
        listening.map_err(|errno| error("listen on")(errno.into()))?;
        let socket = sys::watch(socket, Interest::READABLE).map_err(error("watch"))?;
        Ok(Listener::Socket { socket, host_only })
    }

    /// The next connection from the host. Connections of other peers are closed unread.
    ///
    /// # Errors
    /// As `accept4(2)`: the listener itself stays good, but `EMFILE` and its like return at once until something is
    /// freed.
    pub async fn accept(&mut self) -> io::Result<Socket> {
        match self {
            Listener::Road(road) => Ok(Socket::new(road.accept().await?)),
            Listener::Socket { socket, host_only } => loop {
                let socket = socket.async_io(Interest::READABLE, sys::accept).await?;
                if !*host_only || is_host(&socket) {
                    return Ok(Socket::new(socket));
                }
            },
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
        let mut listener = Listener::bind(&Address::Unix(path.clone())).await.unwrap();
        let Listener::Socket { host_only, .. } = &mut listener else { panic!("no socket") };
        *host_only = true;
        let mut stranger = UnixStream::connect(&path).unwrap();
        // Whoever has no vsock address is no host.
        let closed = tokio::task::spawn_blocking(move || stranger.read(&mut [0]));
        tokio::select! {
            accepted = listener.accept() => panic!("{accepted:?}"),
            read = closed => assert_eq!(read.unwrap().unwrap(), 0),
        }
    }
}
