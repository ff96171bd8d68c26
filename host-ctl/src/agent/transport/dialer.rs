//! Connections that another process makes for us: the VM's monitor asks the backend, and passes the connected socket on.
//!
//! A client can be killed between its question and the answer, which the backend does not survive (see `vhost_user`); the
//! monitor stays. The question is the backend's own, `CONNECT <port>\n`. The answer is `OK\n` with the socket as
//! `SCM_RIGHTS` (`unix(7)`), or a line that says why not.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use firstlight_multiplex::Request;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Duration, sleep, timeout};

use super::vhost_user;
use crate::socket_path::ShortPath;

/// Longest question and longest answer in bytes, newline included.
const MAX_LINE: usize = 256;

/// Questions that are being answered at one time. More wait in the socket's own queue.
const MAX_QUESTIONS: usize = 256;

/// How long a client may take to say what it wants.
const QUESTION_DEADLINE: Duration = Duration::from_secs(5);

/// How long to let go of the listener when there is no descriptor for another client; accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

const GRANTED: &[u8] = b"OK\n";

/// Connects to `port` of a guest through the monitor that listens at `path`.
///
/// # Errors
/// `NotFound` and `ConnectionRefused` when no monitor listens there; else what the monitor met.
pub(super) async fn connect(path: &Path, port: u32) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(&ShortPath::of(path)?).await?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
    let mut line = [0; MAX_LINE];
    let (length, passed) = stream.async_io(Interest::READABLE, || receive(&stream, &mut line)).await?;
    match passed {
        Some(passed) => {
            let passed = std::os::unix::net::UnixStream::from(passed);
            UnixStream::from_std(passed)
        }
        None if length == 0 => Err(io::ErrorKind::ConnectionAborted.into()),
        None => {
            let reason = String::from_utf8_lossy(&line[..length]).trim_end().to_owned();
            Err(io::Error::new(io::ErrorKind::NotConnected, reason))
        }
    }
}

/// What has the connections that clients ask for.
#[derive(Debug, Clone)]
pub enum Backend {
    /// A vhost-user vsock backend, by its unix socket.
    VhostUser(PathBuf),
    /// The multiplexer on the agent's virtio-serial port.
    Serial(mpsc::Sender<Request>),
}

impl Backend {
    async fn connect(&self, port: u32) -> io::Result<UnixStream> {
        match self {
            Backend::VhostUser(path) => vhost_user::connect(path, port).await,
            Backend::Serial(_) if port != firstlight_protocol::port::AGENT => Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "the serial road leads to the agent alone",
            )),
            Backend::Serial(requests) => {
                let gone = |_| io::Error::from(io::ErrorKind::ConnectionAborted);
                let (request, connected) = oneshot::channel();
                requests.send(request).await.map_err(|_| io::ErrorKind::ConnectionAborted)?;
                UnixStream::from_std(connected.await.map_err(gone)?)
            }
        }
    }
}

/// Connects clients to the guest behind `backend`, for as long as it is polled. The backend is asked when what `ready` gives
/// says so.
pub async fn serve<R>(listener: UnixListener, backend: Backend, ready: impl Fn() -> R)
where
    R: Future<Output = ()> + Send + 'static,
{
    let questions = Arc::new(Semaphore::new(MAX_QUESTIONS));
    loop {
        // The semaphore is never closed; if it were, one question more would do no harm.
        let place = Arc::clone(&questions).acquire_owned().await.ok();
        let Ok((client, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (backend, ready) = (backend.clone(), ready());
        tokio::spawn(async move {
            // A client that has gone wants no answer.
            let _ = answer(client, &backend, ready).await;
            drop(place);
        });
    }
}

async fn answer(
    mut client: UnixStream,
    backend: &Backend,
    ready: impl Future<Output = ()>,
) -> io::Result<()> {
    let port = timeout(QUESTION_DEADLINE, question(&mut client)).await??;
    ready.await;
    match backend.connect(port).await {
        Ok(guest) => {
            client.async_io(Interest::WRITABLE, || pass(&client, &guest)).await?;
            Ok(())
        }
        Err(error) => {
            let mut reason = error.to_string().into_bytes();
            reason.truncate(MAX_LINE - 1);
            reason.push(b'\n');
            client.write_all(&reason).await
        }
    }
}

/// The port that a client asks for.
async fn question(client: &mut UnixStream) -> io::Result<u32> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') && line.len() < MAX_LINE {
        if client.read_buf(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let port = str::from_utf8(&line).ok().and_then(|line| line.trim_end().strip_prefix("CONNECT "));
    port.and_then(|port| port.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn pass(client: &UnixStream, guest: &UnixStream) -> io::Result<usize> {
    let guest = [guest.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&guest));
    Ok(sendmsg(client, &[IoSlice::new(GRANTED)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// An answer: how many bytes of `line` it has, and the socket if there is one.
fn receive(stream: &UnixStream, line: &mut [u8]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(stream, &mut [IoSliceMut::new(line)], &mut control, flags)?;
    let passed = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        RecvAncillaryMessage::ScmCredentials(_) | _ => None,
    });
    Ok((received.bytes, passed))
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    /// A monitor before a backend that the test plays.
    struct Lab {
        directory: tempfile::TempDir,
        backend: UnixListener,
        ready: watch::Sender<bool>,
        /// Whether somebody has waited for the guest to be ready.
        waiting: watch::Sender<bool>,
        monitor: tokio::task::JoinHandle<()>,
    }

    impl Lab {
        fn new() -> Lab {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("vsock");
            let backend = UnixListener::bind(&path).unwrap();
            let listener = UnixListener::bind(directory.path().join("dialer.sock")).unwrap();
            let (ready, waiting) = (watch::Sender::new(true), watch::Sender::new(false));
            let is_ready = {
                let (ready, waiting) = (ready.clone(), waiting.clone());
                move || {
                    let (mut ready, waiting) = (ready.subscribe(), waiting.clone());
                    async move {
                        waiting.send_replace(true);
                        drop(ready.wait_for(|ready| *ready).await.unwrap());
                    }
                }
            };
            let monitor = tokio::spawn(serve(listener, Backend::VhostUser(path), is_ready));
            Lab { directory, backend, ready, waiting, monitor }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("dialer.sock")
        }

        /// The next question that reaches the backend, not yet answered.
        async fn asked(&self, port: u32) -> UnixStream {
            let (mut asker, _) = self.backend.accept().await.unwrap();
            let expected = format!("CONNECT {port}\n");
            let mut line = vec![0; expected.len()];
            asker.read_exact(&mut line).await.unwrap();
            assert_eq!(line, expected.as_bytes());
            asker
        }
    }

    #[tokio::test]
    async fn a_client_gets_the_guest_s_end_itself() {
        let lab = Lab::new();
        let path = lab.path();
        let client = tokio::spawn(async move { connect(&path, 1024).await.unwrap() });
        let mut guest = lab.asked(1024).await;
        guest.write_all(b"OK 7\nfirst bytes").await.unwrap();
        let mut client = client.await.unwrap();
        // What the monitor does from now on is of no account.
        lab.monitor.abort();
        let mut bytes = [0; 11];
        client.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"first bytes");
        client.write_all(b"answer").await.unwrap();
        drop(client);
        let mut heard = String::new();
        guest.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "answer");
    }

    #[tokio::test]
    async fn the_backend_s_answer_is_awaited_for_a_client_that_has_gone() {
        let lab = Lab::new();
        let client = std::os::unix::net::UnixStream::connect(lab.path()).unwrap();
        std::io::Write::write_all(&mut &client, b"CONNECT 1024\n").unwrap();
        let mut guest = lab.asked(1024).await;
        drop(client);
        // Another client's turn has passed, so the first one's end was there to be seen.
        let path = lab.path();
        let second = tokio::spawn(async move { connect(&path, 1).await.unwrap() });
        lab.asked(1).await.write_all(b"OK 8\n").await.unwrap();
        second.await.unwrap();
        assert_eq!(guest.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock, "it waits on");
        guest.write_all(b"OK 9\n").await.unwrap();
        assert_eq!(guest.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn nobody_is_asked_before_the_guest_is_ready() {
        let lab = Lab::new();
        lab.ready.send_replace(false);
        let path = lab.path();
        let client = tokio::spawn(async move { connect(&path, 1024).await });
        let mut waiting = lab.waiting.subscribe();
        tokio::select! {
            _ = lab.backend.accept() => panic!("asked"),
            waits = waiting.wait_for(|waiting| *waiting) => drop(waits.unwrap()),
        }
        lab.ready.send_replace(true);
        lab.asked(1024).await.write_all(b"OK 1\n").await.unwrap();
        client.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_refusal_says_why() {
        let lab = Lab::new();
        let path = lab.path();
        let client = tokio::spawn(async move { connect(&path, 1024).await.unwrap_err() });
        drop(lab.asked(1024).await);
        assert_eq!(client.await.unwrap().to_string(), "nothing listens on it in the guest");
    }

    #[tokio::test]
    async fn what_is_no_question_is_hung_up_on() {
        let lab = Lab::new();
        for question in ["GET / HTTP/1.1\n", "CONNECT\n", "CONNECT 4294967296\n"] {
            let mut client = UnixStream::connect(lab.path()).await.unwrap();
            client.write_all(question.as_bytes()).await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "{question:?}");
        }
    }
}
