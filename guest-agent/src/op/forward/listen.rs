//! From somebody in the guest to the host: a listener that lasts as long as its agent connection.

use std::future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::forward::{
    ForwardDecline, ForwardIncoming, ForwardListenRequest, ForwardListening,
};
use firstlight_socket::{Listener, Stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, sleep_until};

use super::refuse;
use super::waiting::{Registered, Waiting};
use crate::agent::Agent;
use crate::deframer::Frame;
use crate::failure;
use crate::session::SessionError;
use crate::wire::Connection;

/// Connections of one listener that wait for the host. More wait in the kernel's backlog, where they cost the agent
/// nothing.
const MAX_WAITING: usize = 64;

/// A unix socket in the guest is for whoever runs there, as a port of the loopback is.
const SOCKET_MODE: u32 = 0o666;

/// How long to let go of the listener when the kernel has no descriptor for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Listens, and announces what comes, until the host closes the connection.
///
/// # Errors
/// [`SessionError`] when the host broke the protocol.
pub async fn listen(
    agent: &Agent,
    connection: &mut Connection,
    id: u64,
    request: &ForwardListenRequest,
) -> Result<(), SessionError> {
    let writer = &mut connection.writer;
    let opened = open(&agent.waiting, request).await;
    // Dropped from the right: who is reset finds the listener gone.
    let (registered, listener, listening) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let address = request.address.to_string();
            return refuse(writer, id, &failure::system("listen", Some(Path::new(&address)), &error)).await;
        }
    };
    writer.send(Kind::ForwardListening, id, &codec::encode(&listening)?).await?;
    announce(agent, connection, id, &listener, &registered).await
}

async fn open(
    waiting: &Arc<Waiting>,
    request: &ForwardListenRequest,
) -> io::Result<(Registered, Listener, ForwardListening)> {
    let listener = Listener::bind(&request.address, SOCKET_MODE).await?;
    let registered = waiting.register(&listener)?;
    let listening = ForwardListening { address: listener.address()? };
    Ok((registered, listener, listening))
}

async fn announce(
    agent: &Agent,
    connection: &mut Connection,
    id: u64,
    listener: &Listener,
    registered: &Registered,
) -> Result<(), SessionError> {
    let Connection { reader, writer, .. } = connection;
    let places = Arc::new(Semaphore::new(MAX_WAITING));
    loop {
        let due = agent.waiting.expire(Instant::now());
        tokio::select! {
            (stream, place) = accept(listener, &places) => {
                let ticket = registered.offer(stream, place, Instant::now());
                let incoming = codec::encode(&ForwardIncoming { ticket })?;
                writer.send(Kind::ForwardIncoming, id, &incoming).await?;
            }
            frame = reader.next() => match frame? {
                Some(frame) => decline(&agent.waiting, id, &frame)?,
                None => return Ok(()),
            },
            () = until(due) => {}
        }
    }
}

async fn accept(listener: &Listener, places: &Arc<Semaphore>) -> (Stream, Option<OwnedSemaphorePermit>) {
    // The semaphore is never closed; if it were, one connection more would do no harm.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok(stream) => return (stream, place),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

fn decline(waiting: &Waiting, id: u64, frame: &Frame) -> Result<(), SessionError> {
    if frame.header.kind != Kind::ForwardDecline || frame.header.id != id {
        let expected = "the connection belongs to a listener, which takes ForwardDecline";
        return Err(SessionError::Unexpected { kind: frame.header.kind, expected });
    }
    let ForwardDecline { ticket } = codec::decode(&frame.payload)?;
    // It may have been taken, or be too late; either way there is nothing left to reset.
    drop(waiting.take(ticket));
    Ok(())
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => future::pending().await,
    }
}
