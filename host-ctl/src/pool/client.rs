//! How a command reaches a pool that another process serves.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use super::place::PoolPlace;
use super::wire::{Answer, MAX_ANSWER, RefusalKind, Request};
use crate::socket_path::ShortPath;

/// A pool did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody serves it.
    #[error("nobody serves pool {pool:?}")]
    NotServed {
        /// The pool.
        pool: String,
    },
    /// It refused.
    #[error("pool {pool:?}: {reason}")]
    Refused {
        /// The pool.
        pool: String,
        /// Which kind of refusal.
        kind: RefusalKind,
        /// Why, in words.
        reason: String,
    },
    /// It did not answer in time.
    #[error("timed out waiting for pool {pool:?} to answer")]
    Timeout {
        /// The pool.
        pool: String,
    },
    /// It ended before it answered.
    #[error("pool {pool:?} ended before it answered")]
    Ended {
        /// The pool.
        pool: String,
    },
    /// It said what no pool says.
    #[error("pool {pool:?} is served by another version: {reason}")]
    Protocol {
        /// The pool.
        pool: String,
        /// What was wrong with it.
        reason: String,
    },
    /// A system call failed.
    #[error("pool {pool:?}: cannot {operation}: {source}")]
    Io {
        /// The pool.
        pool: String,
        /// What was being done.
        operation: &'static str,
        /// The cause.
        source: io::Error,
    },
}

/// Asks the pool at `place` for something; `limit` bounds the wait for the answer, `None` waits for as long as the pool
/// lives.
///
/// # Errors
/// [`ClientError`].
pub async fn ask(
    place: &PoolPlace,
    request: &Request,
    limit: Option<Duration>,
) -> Result<Answer, ClientError> {
    let pool = || place.name().to_owned();
    let asked = exchange(place, request);
    let answer = match limit {
        Some(limit) => {
            let answered = timeout_at(Instant::now() + limit, asked).await;
            answered.map_err(|_| ClientError::Timeout { pool: pool() })??
        }
        None => asked.await?,
    };
    match answer {
        Answer::Refused { kind, reason } => Err(ClientError::Refused { pool: pool(), kind, reason }),
        Answer::Granted { .. }
        | Answer::Renewed { .. }
        | Answer::Done
        | Answer::Status(_)
        | Answer::Swept { .. } => Ok(answer),
    }
}

async fn exchange(place: &PoolPlace, request: &Request) -> Result<Answer, ClientError> {
    let pool = || place.name().to_owned();
    let failed = |operation| move |source| ClientError::Io { pool: pool(), operation, source };
    let mut stream = connect(place).await?;
    let mut line = serde_json::to_vec(request).map_err(|error| failed("encode a request")(error.into()))?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(failed("write to it"))?;
    let (mut answer, mut reader) = (Vec::new(), BufReader::new(&mut stream).take(MAX_ANSWER as u64));
    reader.read_until(b'\n', &mut answer).await.map_err(failed("read from it"))?;
    if answer.last() != Some(&b'\n') {
        return Err(ClientError::Ended { pool: pool() });
    }
    serde_json::from_slice(&answer)
        .map_err(|error| ClientError::Protocol { pool: pool(), reason: error.to_string() })
}

async fn connect(place: &PoolPlace) -> Result<UnixStream, ClientError> {
    let pool = || place.name().to_owned();
    let connected = match ShortPath::of(&place.socket()) {
        Ok(path) => UnixStream::connect(&path).await,
        Err(error) => Err(error),
    };
    connected.map_err(|source| {
        if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
            ClientError::NotServed { pool: pool() }
        } else {
            ClientError::Io { pool: pool(), operation: "connect to it", source }
        }
    })
}
