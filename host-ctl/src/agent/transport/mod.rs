//! Bytes to and from one port of a guest.

pub mod dialer;
mod vhost_user;

use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::{Duration, Instant, sleep_until, timeout_at};
use tokio_vsock::{VsockAddr, VsockStream};

use super::error::{Awaited, Error};
use crate::backoff::{Attempt, Backoff, jitter, retry};
use crate::socket_path::ShortPath;

/// Where a guest's ports are reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Address {
    /// The unix socket of a vhost-user vsock backend; Firecracker and Cloud Hypervisor have the same. The port is
    /// asked for with a `CONNECT` line.
    VhostUser(PathBuf),
    /// The same backend, reached through the VM's monitor while there is one.
    Monitor {
        /// The monitor's socket, see [`dialer`].
        dialer: PathBuf,
        /// The backend's.
        backend: PathBuf,
    },
    /// The VM's monitor, which has the other end of the guest's virtio-serial ports: [`dialer`]'s socket.
    Serial(PathBuf),
    /// The kernel's vsock, by the guest's context id (`vsock(7)`).
    Kernel(u32),
    /// A plain unix socket in the place of the port, for tests without a VM.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::VhostUser(path)
            | Address::Monitor { backend: path, .. }
            | Address::Serial(path)
            | Address::Unix(path) => {
                write!(f, "{}", path.display())
            }
            Address::Kernel(cid) => write!(f, "vsock context id {cid}"),
        }
    }
}

/// A connected byte stream of any transport.
pub type Stream = Box<dyn Duplex>;

/// Reads and writes.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {
    /// The socket once more, for a thread. It does not block.
    ///
    /// # Errors
    /// When no descriptor is free.
    fn duplicate(&self) -> io::Result<OwnedFd>;
}

impl Duplex for UnixStream {
    fn duplicate(&self) -> io::Result<OwnedFd> {
        self.as_fd().try_clone_to_owned()
    }
}

impl Duplex for VsockStream {
    fn duplicate(&self) -> io::Result<OwnedFd> {
        self.as_fd().try_clone_to_owned()
    }
}

/// Bytes in memory, which are under tokio's clock.
#[cfg(test)]
impl Duplex for tokio::io::DuplexStream {
    fn duplicate(&self) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// How long one attempt to connect may take before another is made. A guest that listens answers in milliseconds.
const ATTEMPT: Duration = Duration::from_secs(2);

/// How long refusals of a road that has others say little, counted from the first: an agent that is being started again, or that
/// many want to reach at once, refuses too.
const DOUBT: Duration = Duration::from_secs(1);

/// Connects to `port` of the guest at `address`.
///
/// A vhost-user backend drops a `CONNECT` for which no guest is ready, and then no answer ever comes; a guest that is short
/// of memory refuses one connection and takes the next; and one that was saved may for some seconds still hold an old
/// connection of the same number, and drops the new one. So there is more than one attempt.
///
/// # Errors
/// [`Error::Unreachable`] when nothing listens there, [`Error::Timeout`] at the deadline.
pub async fn connect(address: &Address, port: u32, deadline: Instant) -> Result<Stream, Error> {
    let doubt = match address {
        Address::VhostUser(_) | Address::Monitor { .. } | Address::Serial(_) => DOUBT,
        Address::Kernel(_) | Address::Unix(_) => Duration::ZERO,
    };
    let mut pauses = None;
    loop {
        let attempt = deadline.min(Instant::now() + ATTEMPT);
        match timeout_at(attempt, dial(address, port)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(source)) => {
                let now = Instant::now();
                let pauses = pauses.get_or_insert_with(|| Backoff::new(deadline.min(now + doubt), jitter));
                let Some(next) = pauses.next(now) else {
                    return Err(Error::Unreachable { address: format!("{address} port {port}"), source });
                };
                sleep_until(next).await;
            }
            Err(_) if Instant::now() >= deadline => return Err(Error::Timeout(Awaited::Connect)),
            Err(_) => {}
        }
    }
}

/// The only way over a serial port. A monitor that takes over from one that was killed listens when it has adopted the VM.
async fn through_monitor(dialer: &Path, port: u32) -> io::Result<UnixStream> {
    retry(Instant::now() + ATTEMPT, jitter, async || match dialer::connect(dialer, port).await {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Attempt::NotYet(error)
        }
        connected => Attempt::Done(connected),
    })
    .await?
}

async fn dial(address: &Address, port: u32) -> io::Result<Stream> {
    match address {
        Address::VhostUser(path) => Ok(Box::new(vhost_user::connect(path, port).await?)),
        Address::Monitor { dialer, backend } => match dialer::connect(dialer, port).await {
            // A monitor that was killed leaves its VM running.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                Ok(Box::new(vhost_user::connect(backend, port).await?))
            }
            connected => Ok(Box::new(connected?)),
        },
        Address::Serial(dialer) => Ok(Box::new(through_monitor(dialer, port).await?)),
        Address::Kernel(cid) => Ok(Box::new(VsockStream::connect(VsockAddr::new(*cid, port)).await?)),
        Address::Unix(path) => Ok(Box::new(UnixStream::connect(&ShortPath::of(path)?).await?)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    async fn asked(backend: &UnixListener) -> UnixStream {
        let (mut asker, _) = backend.accept().await.unwrap();
        asker.read_exact(&mut [0; b"CONNECT 1024\n".len()]).await.unwrap();
        asker
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_doubted_although_an_attempt_before_it_took_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vsock");
        let backend = UnixListener::bind(&path).unwrap();
        let answers = async {
            let unanswered = asked(&backend).await;
            drop(asked(&backend).await);
            let mut answered = asked(&backend).await;
            answered.write_all(b"OK 1\n").await.unwrap();
            std::future::pending::<()>().await;
            drop((unanswered, answered));
        };
        let address = Address::VhostUser(path);
        let attempts = connect(&address, 1024, Instant::now() + Duration::from_secs(60));
        tokio::select! {
            connected = attempts => drop(connected.unwrap()),
            () = answers => unreachable!(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_all_along_is_told_where_and_why() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vsock");
        let backend = UnixListener::bind(&path).unwrap();
        let address = Address::VhostUser(path);
        let attempts = connect(&address, 1024, Instant::now() + Duration::from_secs(60));
        let refusals = async {
            loop {
                drop(asked(&backend).await);
            }
        };
        let error = tokio::select! {
            connected = attempts => connected.map(drop).unwrap_err(),
            () = refusals => unreachable!(),
        };
        let expected =
            format!("cannot reach the agent at {address} port 1024: nothing listens on it in the guest");
        assert_eq!(error.to_string(), expected);
    }
}
