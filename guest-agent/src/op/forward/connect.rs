//! From the host to a socket in the guest: one that it asks for, or one that a listener announced.

use std::io;
use std::path::Path;
use std::time::Duration;

use firstlight_protocol::message::Kind;
use firstlight_protocol::message::forward::{ForwardRequest, ForwardTakeRequest};
use firstlight_socket::Stream;
use nix::errno::Errno;
use tokio::time::timeout;

use super::{carry, refuse};
use crate::agent::Agent;
use crate::failure;
use crate::session::SessionError;
use crate::wire::Connection;

/// How long a connect may take in the guest; the answer is then ETIMEDOUT. A host of the guest's own network that drops
/// packets is the only reason to wait at all.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Connects, answers, and carries the connection to its end.
///
/// # Errors
/// [`SessionError`] when the host went away or broke the protocol.
pub async fn connect(
    connection: &mut Connection,
    id: u64,
    request: &ForwardRequest,
) -> Result<(), SessionError> {
    let connected = timeout(CONNECT_DEADLINE, Stream::connect(&request.target)).await;
    match connected.unwrap_or_else(|_| Err(io::Error::from(Errno::ETIMEDOUT))) {
        Ok(stream) => begin(connection, id, stream).await,
        Err(error) => {
            let target = request.target.to_string();
            let error = failure::system("connect", Some(Path::new(&target)), &error);
            refuse(&mut connection.writer, id, &error).await
        }
    }
}

/// Carries a connection that waits for the host.
///
/// # Errors
/// As [`connect`].
pub async fn take(
    agent: &Agent,
    connection: &mut Connection,
    id: u64,
    request: &ForwardTakeRequest,
) -> Result<(), SessionError> {
    match agent.waiting.take(request.ticket) {
        Some(stream) => begin(connection, id, stream).await,
        None => {
            let error = failure::invalid(
                "take connection",
                "it waits no more: it was taken, or declined, or too late",
            );
            refuse(&mut connection.writer, id, &error).await
        }
    }
}

async fn begin(connection: &mut Connection, id: u64, stream: Stream) -> Result<(), SessionError> {
    connection.writer.send(Kind::ForwardConnected, id, &[]).await?;
    carry::carry(connection, id, stream).await
}
