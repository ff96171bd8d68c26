//! One connection: hello, then requests until the peer leaves.

use std::sync::Arc;
use std::time::Duration;

use firstlight_protocol::codec::{self, CodecError};
use firstlight_protocol::frame::MAX_PAYLOAD;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::hello::{Hello, Refusal, Welcome};
use firstlight_protocol::version::SUPPORTED;
use firstlight_socket::bulk::BulkError;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::agent::Agent;
use crate::failure;
use crate::gate::Session;
use crate::op;
use crate::op::snapshot::{self, Then};
use crate::under_way::UnderWay;
use crate::wire::{Connection, Socket, WireError};

/// How long a peer may take to say hello and hear the answer. Longer than host-ctl waits for a connection (10 s): on a
/// host that is busy it is then host-ctl that gives up, and can say what it waited for, and not a connection that closes without a word.
const HELLO_DEADLINE: Duration = Duration::from_secs(15);

/// The largest hello in bytes. A peer that has shown no token yet gets no more memory than this.
const MAX_HELLO: u32 = 256;

/// How long a peer has to take the error that ends its connection.
const LAST_WORD_DEADLINE: Duration = Duration::from_secs(1);

/// Why a connection ended before its peer closed it.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The stream broke, or what it carried was no frame.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A frame's payload was not the message its kind says.
    #[error(transparent)]
    Message(#[from] CodecError),
    /// A frame came that has no meaning at this point.
    #[error("unexpected {kind:?} frame: {expected}")]
    Unexpected {
        /// What came.
        kind: Kind,
        /// What would have made sense.
        expected: &'static str,
    },
    /// The peer gave a request the id of another that has no answer yet.
    #[error("the id {0} is in use by a request that is not answered yet")]
    IdInUse(u64),
    /// A stream failed while the peer was still sending, and it has been told. What it sends next has no meaning.
    #[error("a stream was abandoned")]
    Abandoned,
    /// The peer was refused at its hello, and has been told.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Serves one connection to its end. `handshake` is given back once the peer has proved itself.
pub async fn run(agent: Arc<Agent>, socket: Socket, handshake: Option<OwnedSemaphorePermit>) {
    // Without memory for it in the kernel there is nothing to say it with either.
    let Ok(mut connection) = Connection::new(socket, MAX_HELLO) else { return };
    let ended = match timeout(HELLO_DEADLINE, greet(&agent, &mut connection)).await {
        Err(_) => return,
        Ok(Err(error)) => Err(error),
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some(_place))) => {
            drop(handshake);
            let socket = connection.socket();
            let served = {
                let session = agent.gate.connect(socket.clone());
                tokio::select! {
                    ended = serve(&agent, &mut connection, &session) => ended,
                    never = socket.keep_alive() => match never {},
                }
            };
            if let Ok(Ended::HeldBack) = served {
                // Closed only then: a vsock connection that is half closed when its device goes is kept for seconds.
                agent.gate.opened().await;
            }
            served.map(drop)
        }
    };
    if let Err(error) = ended {
        let _ = timeout(LAST_WORD_DEADLINE, explain(&mut connection, &error)).await;
    }
}

/// Hears the hello and answers it. `None` when the peer left without one.
async fn greet(
    agent: &Agent,
    connection: &mut Connection,
) -> Result<Option<OwnedSemaphorePermit>, SessionError> {
    let Some(frame) = connection.reader.next().await? else { return Ok(None) };
    let id = frame.header.id;
    if frame.header.kind != Kind::Hello {
        return Err(SessionError::Unexpected {
            kind: frame.header.kind,
            expected: "a connection starts with Hello",
        });
    }
    let hello: Hello = codec::decode(&frame.payload)?;
    match admit(agent, &hello) {
        Ok((welcome, place)) => {
            connection.writer.send(Kind::Welcome, id, &codec::encode(&welcome)?).await?;
            connection.reader.set_max_payload(MAX_PAYLOAD);
            Ok(Some(place))
        }
        Err(refusal) => {
            connection.writer.send(Kind::Refusal, id, &codec::encode(&refusal)?).await?;
            Err(refusal.into())
        }
    }
}

/// The token comes first, so that a stranger learns nothing about versions or load.
fn admit(agent: &Agent, hello: &Hello) -> Result<(Welcome, OwnedSemaphorePermit), Refusal> {
    let incarnation = agent.incarnation();
    if hello.token != incarnation.token {
        return Err(Refusal::WrongToken);
    }
    let version = SUPPORTED.agree(hello.versions).ok_or(Refusal::NoCommonVersion(SUPPORTED))?;
    let place = agent.admit().ok_or(Refusal::Busy)?;
    Ok((Welcome { version, boot_id: incarnation.boot_id }, place))
}

/// How a connection ended that nothing was wrong with.
enum Ended {
    /// The peer left, or was told to.
    Done,
    /// The peer asked for something while the guest is held still.
    HeldBack,
}

/// Serves requests until the peer leaves. Those that take their time are answered when they are done; the others do not wait for
/// them.
async fn serve(
    agent: &Arc<Agent>,
    connection: &mut Connection,
    session: &Session<'_>,
) -> Result<Ended, SessionError> {
    let mut under_way = UnderWay::default();
    let ended = loop {
        let frame = tokio::select! {
            frame = connection.reader.next(), if under_way.has_room() => frame?,
            Some(reply) = under_way.next() => {
                op::reply(&mut connection.writer, reply).await?;
                continue;
            }
        };
        let Some(frame) = frame else { break Ended::Done };
        if snapshot::is_of_snapshots(frame.header.kind) {
            // They wait for all that is under way, and it is we who answer that.
            op::settle(&mut under_way, &mut connection.writer).await?;
            match snapshot::run(agent, connection, session, &frame).await? {
                Then::GoOn => continue,
                Then::Close => break Ended::Done,
            }
        }
        let Some(running) = agent.gate.enter(frame.header.kind) else { break Ended::HeldBack };
        op::serve(agent, connection, &mut under_way, running, frame).await?;
    };
    op::settle(&mut under_way, &mut connection.writer).await?;
    Ok(ended)
}

/// Tells the peer why its connection closes, if it can still understand.
async fn explain(connection: &mut Connection, error: &SessionError) -> Result<(), SessionError> {
    let told_or_gone = match error {
        SessionError::Refused(_)
        | SessionError::Abandoned
        | SessionError::Wire(WireError::Broken(BulkError::Io { .. })) => true,
        SessionError::Wire(_)
        | SessionError::Message(_)
        | SessionError::Unexpected { .. }
        | SessionError::IdInUse(_) => false,
    };
    if told_or_gone || !connection.writer.is_between_frames() {
        return Ok(());
    }
    let error = codec::encode(&failure::protocol(error.to_string()))?;
    Ok(connection.writer.send(Kind::Error, NO_REQUEST, &error).await?)
}

/// The id of an error that answers no request in particular.
const NO_REQUEST: u64 = 0;
