//! Bytes to and from one port of a guest.

mod handshake;

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::{Duration, Instant, timeout_at};
use tokio_vsock::{VsockAddr, VsockStream};

use super::error::{Awaited, Error};
use crate::socket_path::ShortPath;

/// Where a guest's ports are reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Address {
    /// The unix socket of a vhost-user vsock backend; Firecracker and Cloud Hypervisor have the same. The port is
    /// asked for with a `CONNECT` line.
    VhostUser(PathBuf),
    /// The kernel's vsock, by the guest's context id (`vsock(7)`).
    Kernel(u32),
    /// A plain unix socket in the place of the port, for tests without a VM.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::VhostUser(path) | Address::Unix(path) => write!(f, "{}", path.display()),
            Address::Kernel(cid) => write!(f, "vsock context id {cid}"),
        }
    }
}

/// A connected byte stream of any transport.
pub type Stream = Box<dyn Duplex>;

/// Reads and writes.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// How long one attempt to connect may take before another is made. A guest that listens answers in milliseconds.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Refusals in a row of a vhost-user backend that say nothing yet.
const EMPTY_REFUSALS: u32 = 3;

/// Connects to `port` of the guest at `address`.
///
/// A vhost-user backend drops a `CONNECT` for which no guest is ready, and then no answer ever comes. One was also seen to
/// lose or refuse a single attempt while another connection stood still; the next attempt has another number. And it
/// counts its connections from the same number after each save: a guest that was saved may still hold an old connection
/// of that number for some seconds, and then drops or refuses the new one. So there is more than one.
///
/// # Errors
/// [`Error::Unreachable`] when nothing listens there, [`Error::Timeout`] at the deadline.
pub async fn connect(address: &Address, port: u32, deadline: Instant) -> Result<Stream, Error> {
    let mut refusals = match address {
        Address::VhostUser(_) => EMPTY_REFUSALS,
        Address::Kernel(_) | Address::Unix(_) => 0,
    };
    loop {
        let attempt = deadline.min(Instant::now() + ATTEMPT);
        match timeout_at(attempt, dial(address, port)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(_)) if refusals > 0 => refusals -= 1,
            Ok(Err(source)) => {
                return Err(Error::Unreachable { address: format!("{address} port {port}"), source });
            }
            Err(_) if Instant::now() >= deadline => return Err(Error::Timeout(Awaited::Connect)),
            Err(_) => {}
        }
    }
}

async fn dial(address: &Address, port: u32) -> io::Result<Stream> {
    match address {
        Address::VhostUser(path) => {
            let mut stream = UnixStream::connect(&ShortPath::of(path)?).await?;
            handshake::ask_for_port(&mut stream, port).await?;
            Ok(Box::new(stream))
        }
        Address::Kernel(cid) => Ok(Box::new(VsockStream::connect(VsockAddr::new(*cid, port)).await?)),
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(&ShortPath::of(path)?).await?)),
    }
}
