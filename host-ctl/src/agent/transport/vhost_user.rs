//! The unix socket of a vhost-user vsock backend: `CONNECT <port>\n`, answered by `OK <number>\n`.
//!
//! The number is the backend's own and means nothing here. The guest's first bytes may follow the line at once, so it is
//! read one byte at a time: what a buffered reader took too much of would be lost to the stream.
//!
//! vhost-device-vsock 0.3.0 has to be asked with care. When the asker has gone by the time the guest answers, its only thread
//! panics and nobody reaches the guest any more; when the asker has gone before it was heard, that thread spins for ever.
//! So whoever asks waits for the answer, even if nobody waits for him any more.

use std::io;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Duration, timeout};

use crate::socket_path::ShortPath;

/// Longest answer in bytes, newline included. `OK 4294967295\n` is 14; a longer line is no answer of a backend.
const MAX_ANSWER: usize = 32;

/// How long an answer is waited for that nobody wants any more. A guest that is held still for longer may cost the VM its
/// vsock; what is never answered would stay for ever.
const PATIENCE: Duration = Duration::from_secs(600);

/// Connects to `port` of the guest behind the backend at `path`. Giving up does not end the attempt; the connection
/// is closed when it is there.
pub(super) async fn connect(path: &Path, port: u32) -> io::Result<UnixStream> {
    let path = ShortPath::of(path)?;
    let attempt = tokio::spawn(async move {
        let ask = async {
            let mut stream = UnixStream::connect(&path).await?;
            ask_for_port(&mut stream, port).await?;
            Ok(stream)
        };
        timeout(PATIENCE, ask).await?
    });
    attempt.await?
}

async fn ask_for_port<S>(stream: &mut S, port: u32) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
    let answer = read_line(stream).await?;
    let number = answer.strip_prefix(b"OK ").unwrap_or_default();
    if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
        let answer = String::from_utf8_lossy(&answer).into_owned();
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the backend answered {answer:?}")));
    }
    Ok(())
}

async fn read_line<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(MAX_ANSWER);
    while line.len() < MAX_ANSWER {
        let mut byte = [0];
        // The backend closes the connection when nothing in the guest listens on the port.
        if stream.read(&mut byte).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionRefused,
                "nothing listens on it in the guest",
            ));
        }
        if byte == *b"\n" {
            return Ok(line);
        }
        line.extend(byte);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the backend's answer is over {MAX_ANSWER} bytes"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the handshake against a backend that says `answer` and then closes.
    async fn handshake(answer: &[u8]) -> (io::Result<()>, Vec<u8>, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(answer).await.unwrap();
        theirs.shutdown().await.unwrap();
        let result = ask_for_port(&mut ours, 1024).await;
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        drop(ours);
        let mut asked = Vec::new();
        theirs.read_to_end(&mut asked).await.unwrap();
        (result, asked, rest)
    }

    #[tokio::test]
    async fn what_follows_the_answer_stays_in_the_stream() {
        let (result, asked, rest) = handshake(b"OK 1073741824\nfirst bytes").await;
        result.unwrap();
        assert_eq!(asked, b"CONNECT 1024\n");
        assert_eq!(rest, b"first bytes");
    }

    #[tokio::test]
    async fn whoever_asked_waits_for_the_answer_when_nobody_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vsock");
        let backend = tokio::net::UnixListener::bind(&path).unwrap();
        let mut asker = {
            let given_up = connect(&path, 1024);
            tokio::pin!(given_up);
            tokio::select! {
                asker = backend.accept() => asker.unwrap().0,
                connected = &mut given_up => panic!("{connected:?}"),
            }
        };
        let mut line = [0; 13];
        asker.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"CONNECT 1024\n");
        assert_eq!(asker.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        asker.write_all(b"OK 1\n").await.unwrap();
        assert_eq!(asker.read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_closed_connection_means_that_nobody_listens() {
        let (result, ..) = handshake(b"").await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn other_answers_are_refused() {
        for answer in [b"NO 7\n".as_slice(), b"OK\n", b"OK seven\n", b"OK 1 2\n", &[b'9'; 64]] {
            let (result, ..) = handshake(answer).await;
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData, "{answer:?}");
        }
    }
}
