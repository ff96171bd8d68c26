//! What a host can ask for: a file an operation.
//!
//! A *unary* operation is a function from its request to its answer; it waits for nothing and writes nothing, so that
//! anything may call it. A *stream* operation takes over the connection until it ends.
//!
//! | operation | is |
//! | --- | --- |
//! | [`status`], [`events`], [`clock`] | unary |
//! | [`file`] | unary, on a thread of their own because they wait for the disk; others are answered meanwhile |
//! | [`stats`], [`network`], [`versions`] | unary, in a batch only |
//! | [`batch`] | many of them at once; it waits, to a deadline, and others are answered meanwhile |
//! | [`shutdown`] | unary, acting after its answer |
//! | [`session`] | streams, and unary questions about them |
//! | [`snapshot`] | unary, and the only ones that a guest which is held still serves |
//! | [`output`], [`copy`], [`sync`], [`forward`] | streams |

pub mod batch;
pub mod clock;
pub mod copy;
pub mod events;
pub mod file;
pub mod forward;
pub mod network;
pub mod output;
pub mod session;
pub mod shutdown;
pub mod snapshot;
pub mod stats;
pub mod status;
pub mod sync;
pub mod versions;

use std::sync::Arc;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;

use crate::agent::Agent;
use crate::deframer::Frame;
use crate::failure;
use crate::gate::Running;
use crate::session::SessionError;
use crate::under_way::{Answer, Reply, Request, UnderWay};
use crate::wire::{Connection, FrameWriter};

/// Serves the request in `frame`, or begins to; it is `running` until it is answered.
///
/// # Errors
/// [`SessionError`] when the connection cannot go on. An operation that merely failed is an answer and no error.
pub async fn serve(
    agent: &Arc<Agent>,
    connection: &mut Connection,
    under_way: &mut UnderWay,
    running: Running,
    frame: Frame,
) -> Result<(), SessionError> {
    let Frame { header, payload } = frame;
    let id = header.id;
    if under_way.has(id) {
        return Err(SessionError::IdInUse(id));
    }
    if takes_over(header.kind) {
        settle(under_way, &mut connection.writer).await?;
    }
    match header.kind {
        Kind::Ping => Ok(connection.writer.send(Kind::Pong, id, &payload).await?),
        Kind::StatusRequest => {
            let status = status::answer(agent).map(|status| codec::encode(&status));
            answer(&mut connection.writer, id, Kind::Status, status).await
        }
        Kind::EventsRequest => {
            let events = events::answer(agent, &codec::decode(&payload)?);
            let events = events.map(|events| codec::encode(&events));
            answer(&mut connection.writer, id, Kind::Events, events).await
        }
        Kind::ClockRequest => {
            let done = clock::set(&codec::decode(&payload)?).map(|()| Ok(Vec::new()));
            answer(&mut connection.writer, id, Kind::ClockDone, done).await
        }
        Kind::BatchRequest => {
            let (agent, request) = (Arc::clone(agent), codec::decode(&payload)?);
            under_way.begin(Request { id, answer: Kind::Batch, running }, async move {
                batch::answer(&agent, &request).await.map(|batch| codec::encode(&batch))
            });
            Ok(())
        }
        Kind::ShutdownRequest => shutdown::run(agent, connection, id, &codec::decode(&payload)?).await,
        Kind::SessionStartRequest => session::start(agent, connection, id, &codec::decode(&payload)?).await,
        Kind::SessionAttachRequest => session::attach(agent, connection, id, &codec::decode(&payload)?).await,
        Kind::SessionWaitRequest => session::wait(agent, connection, id, &codec::decode(&payload)?).await,
        Kind::SessionSignalRequest => {
            let done = session::signal(agent, &codec::decode(&payload)?).map(|()| Ok(Vec::new()));
            answer(&mut connection.writer, id, Kind::SessionDone, done).await
        }
        Kind::SessionResizeRequest => {
            let done = session::resize(agent, &codec::decode(&payload)?).map(|()| Ok(Vec::new()));
            answer(&mut connection.writer, id, Kind::SessionDone, done).await
        }
        Kind::SessionsRequest => {
            let sessions = codec::encode(&session::list(agent));
            answer(&mut connection.writer, id, Kind::Sessions, Ok(sessions)).await
        }
        Kind::ExecRequest => {
            let retired = failure::invalid("exec", "ExecRequest is retired: use SessionStartRequest");
            answer(&mut connection.writer, id, Kind::Error, Err(retired)).await
        }
        Kind::OutputRequest => output::run(agent, connection, id, &codec::decode(&payload)?).await,
        Kind::FileStatRequest
        | Kind::FileListRequest
        | Kind::MakeDirRequest
        | Kind::RemoveRequest
        | Kind::RenameRequest => Ok(file::begin(under_way, running, header, &payload)?),
        Kind::PullRequest => copy::pull(agent, connection, id, codec::decode(&payload)?).await,
        Kind::PushRequest => copy::push(agent, connection, id, codec::decode(&payload)?).await,
        Kind::TreeRequest => sync::describe_tree(agent, connection, id, codec::decode(&payload)?).await,
        Kind::FetchRequest => sync::fetch(agent, connection, id, codec::decode(&payload)?).await,
        Kind::AmendRequest => sync::amend(connection, id, codec::decode(&payload)?).await,
        Kind::ForwardRequest => forward::connect(connection, id, &codec::decode(&payload)?).await,
        Kind::ForwardTakeRequest => forward::take(agent, connection, id, &codec::decode(&payload)?).await,
        Kind::ForwardListenRequest => forward::listen(agent, connection, id, &codec::decode(&payload)?).await,
        Kind::PortsRequest => forward::ports(agent, connection, id).await,
        // They crossed the end of their stream on the wire, and mean nothing any more.
        Kind::Stdin
        | Kind::StdinEnd
        | Kind::SessionAck
        | Kind::SignalRequest
        | Kind::OutputAck
        | Kind::ForwardBytes
        | Kind::ForwardEnd => Ok(()),
        Kind::Hello
        | Kind::Welcome
        | Kind::Refusal
        | Kind::Pong
        | Kind::Status
        | Kind::ExecStarted
        | Kind::Stdout
        | Kind::Stderr
        | Kind::ExecEnd
        | Kind::OutputChunk
        | Kind::OutputEnd
        | Kind::Events
        | Kind::ShutdownAccepted
        | Kind::FileStat
        | Kind::FileList
        | Kind::FileDone
        | Kind::CopyEntry
        | Kind::CopyData
        | Kind::CopyEnd
        | Kind::CopyDone
        | Kind::ForwardConnected
        | Kind::ForwardListening
        | Kind::ForwardIncoming
        | Kind::ForwardDecline
        | Kind::Ports
        | Kind::TreeItems
        | Kind::TreeEnd
        | Kind::AmendDone
        | Kind::SnapshotPrepareRequest
        | Kind::SnapshotPrepared
        | Kind::SnapshotThawRequest
        | Kind::SnapshotThawed
        | Kind::SnapshotRestoreRequest
        | Kind::SnapshotRestored
        | Kind::ClockDone
        | Kind::Batch
        | Kind::SessionStarted
        | Kind::SessionAttached
        | Kind::SessionChunk
        | Kind::SessionInputTaken
        | Kind::SessionEnd
        | Kind::SessionDone
        | Kind::Sessions
        | Kind::Error => {
            Err(SessionError::Unexpected { kind: header.kind, expected: "a host sends requests" })
        }
    }
}

/// Whether the connection belongs to the operation until it ends. What was asked before is answered first then.
fn takes_over(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::ShutdownRequest
            | Kind::SessionStartRequest
            | Kind::SessionAttachRequest
            | Kind::SessionWaitRequest
            | Kind::OutputRequest
            | Kind::PullRequest
            | Kind::PushRequest
            | Kind::TreeRequest
            | Kind::FetchRequest
            | Kind::AmendRequest
            | Kind::ForwardRequest
            | Kind::ForwardTakeRequest
            | Kind::ForwardListenRequest
            | Kind::PortsRequest
    )
}

/// Answers everything that is under way.
///
/// # Errors
/// [`SessionError`] when the host went away.
pub async fn settle(under_way: &mut UnderWay, writer: &mut FrameWriter) -> Result<(), SessionError> {
    while let Some(done) = under_way.next().await {
        reply(writer, done).await?;
    }
    Ok(())
}

/// Sends the answer to a request that was under way.
///
/// # Errors
/// [`SessionError`] when the host went away.
pub async fn reply(writer: &mut FrameWriter, reply: Reply) -> Result<(), SessionError> {
    let Reply { request, result } = reply;
    answer(writer, request.id, request.answer, result).await
}

/// Sends a unary operation's answer, or its error under the same id.
async fn answer(writer: &mut FrameWriter, id: u64, kind: Kind, result: Answer) -> Result<(), SessionError> {
    match result {
        Ok(payload) => Ok(writer.send(kind, id, &payload?).await?),
        Err(error) => Ok(writer.send(Kind::Error, id, &codec::encode(&error)?).await?),
    }
}
