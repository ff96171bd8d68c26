//! A pool's socket: clients that ask.

use std::future::pending;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::error::{AskError, PoolError};
use super::handle::Pool;
use super::millis;
use super::name::vm_number;
use super::policy::{LeaseError, LeaseId, MemberId, Refusal};
use super::wire::{Answer, MAX_REQUEST, RefusalKind, Request};
use crate::socket_path::ShortPath;

/// Most clients at a time. More wait in the socket's own queue.
const MAX_CLIENTS: usize = 1024;

/// How long clients have to hear the last answers of a pool that ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// Listens on `path`. The caller holds the pool's lock, so a socket that is there is nobody's.
///
/// # Errors
/// [`PoolError::Io`].
pub fn listen(path: &Path) -> Result<UnixListener, PoolError> {
    let failed = |operation| move |source| PoolError::Io { operation, path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(error)),
        Ok(()) | Err(_) => {}
    }
    let short = ShortPath::of(path).map_err(failed("name"))?;
    UnixListener::bind(&short).map_err(failed("listen on"))
}

/// Answers clients until `ended`; those who have asked by then get their answers, others are let go of.
pub async fn serve(listener: UnixListener, name: &str, pool: &Pool, ended: impl Future<Output = ()>) {
    let mut clients = JoinSet::new();
    let mut ended = std::pin::pin!(ended);
    loop {
        tokio::select! {
            accepted = listener.accept(), if clients.len() < MAX_CLIENTS => {
                if let Ok((stream, _)) = accepted {
                    clients.spawn(attend(stream, name.to_owned(), pool.clone()));
                }
            }
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
            () = &mut ended => break,
        }
    }
    drop(listener);
    // At the limit those are dropped who say nothing and do not go.
    let _ = timeout(FAREWELL, async { while clients.join_next().await.is_some() {} }).await;
}

/// One client, to its end.
async fn attend(stream: UnixStream, name: String, pool: Pool) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(MAX_REQUEST, reader);
    while let Some(request) = read_request(&mut reader).await {
        let answer = match request {
            Ok(request) => tokio::select! {
                answer = perform(&name, &pool, request) => answer,
                // Whoever asked is gone, and so is its place in line.
                () = end_of(&mut reader) => return,
            },
            Err(reason) => Answer::Refused { kind: RefusalKind::BadRequest, reason },
        };
        // Answers hold no map with keys that are no strings, which is all that could fail.
        let mut line = serde_json::to_vec(&answer).unwrap_or_default();
        line.push(b'\n');
        if writer.write_all(&line).await.is_err() {
            give_back(&name, &pool, answer).await;
            return;
        }
    }
}

/// The next request, or what is wrong with it; `None` when there will be no more.
async fn read_request(reader: &mut BufReader<OwnedReadHalf>) -> Option<Result<Request, String>> {
    let mut line = Vec::new();
    reader.take(MAX_REQUEST as u64).read_until(b'\n', &mut line).await.ok()?;
    if line.last() != Some(&b'\n') {
        let too_long = line.len() >= MAX_REQUEST;
        return too_long.then(|| Err(format!("a request of more than {MAX_REQUEST} bytes")));
    }
    Some(serde_json::from_slice(&line).map_err(|error| format!("not a request: {error}")))
}

/// Waits until the client is gone. One that has sent its next request already is not.
async fn end_of(reader: &mut BufReader<OwnedReadHalf>) {
    match reader.fill_buf().await {
        Ok(next) if !next.is_empty() => pending().await,
        Ok(_) | Err(_) => {}
    }
}

/// A VM whose new holder could not be told about it.
async fn give_back(name: &str, pool: &Pool, answer: Answer) {
    if let Answer::Granted { vm, lease, .. } = answer {
        let release = Request::Release { vm, lease: Some(lease) };
        perform(name, pool, release).await;
    }
}

async fn perform(name: &str, pool: &Pool, request: Request) -> Answer {
    let answer = match request {
        Request::Acquire { wait_ms, ttl_ms } => acquire(pool, ms(wait_ms), ms(ttl_ms)).await,
        Request::Release { vm, lease } => match parse(name, &vm, lease.as_deref()) {
            Ok((vm, lease)) => pool.release(vm, lease).await.map(|()| Answer::Done),
            Err(refused) => return refused,
        },
        Request::Renew { vm, lease, ttl_ms } => match parse(name, &vm, lease.as_deref()) {
            Ok((vm, lease)) => {
                let renewed = pool.renew(vm, lease, ms(ttl_ms)).await;
                renewed.map(|left| Answer::Renewed { expires_in_ms: millis::of(left) })
            }
            Err(refused) => return refused,
        },
        Request::Status => pool.status().await.map(|report| Answer::Status(Box::new(report))),
        Request::Drain { cut_after_ms } => pool.drain(cut_after_ms.map(ms)).await.map(|()| Answer::Done),
        Request::Sweep => pool.sweep().await.map(|vms| Answer::Swept { vms }),
    };
    answer.unwrap_or_else(|error| Answer::Refused { kind: kind(error), reason: error.to_string() })
}

async fn acquire(pool: &Pool, wait: Duration, ttl: Duration) -> Result<Answer, AskError> {
    let granted = pool.acquire(wait, ttl).await?;
    Ok(Answer::Granted {
        vm: granted.name,
        lease: granted.lease.to_string(),
        expires_in_ms: millis::of(granted.expires_in),
    })
}

fn parse(pool: &str, vm: &str, lease: Option<&str>) -> Result<(MemberId, Option<LeaseId>), Answer> {
    let refused = |kind, reason| Answer::Refused { kind, reason };
    let number = vm_number(pool, vm);
    let number = number
        .ok_or_else(|| refused(RefusalKind::NoSuchVm, format!("pool {pool} has no VM called {vm:?}")))?;
    let lease = lease.map(str::parse).transpose();
    Ok((number, lease.map_err(|reason| refused(RefusalKind::BadRequest, reason))?))
}

fn kind(error: AskError) -> RefusalKind {
    match error {
        AskError::Refused(Refusal::TimedOut) => RefusalKind::TimedOut,
        AskError::Refused(Refusal::Busy(_) | Refusal::Draining) | AskError::Ended => RefusalKind::Unavailable,
        AskError::Lease(LeaseError::NoSuchVm) => RefusalKind::NoSuchVm,
        AskError::Lease(LeaseError::NotLeased | LeaseError::Stale) => RefusalKind::LeaseOver,
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
