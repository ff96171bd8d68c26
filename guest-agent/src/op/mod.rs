//! What a host can ask for: a file an operation.
//!
//! A *unary* operation is a function from its request to its answer; it waits for nothing and writes nothing, so that
//! anything may call it. A *stream* operation takes over the connection until it ends.
//!
//! | operation | is |
//! | --- | --- |
//! | [`status`], [`events`] | unary |
//! | [`file`] | unary, on a thread of their own because they wait for the disk |
//! | [`shutdown`] | unary, acting after its answer |
//! | [`exec`], [`output`], [`copy`], [`sync`], [`forward`] | streams |

pub mod copy;
pub mod events;
pub mod exec;
pub mod file;
pub mod forward;
pub mod output;
pub mod shutdown;
pub mod status;
pub mod sync;

use firstlight_protocol::codec::{self, CodecError};
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::AgentError;

use crate::agent::Agent;
use crate::deframer::Frame;
use crate::session::SessionError;
use crate::wire::{Connection, FrameWriter};

/// Serves the request in `frame`.
///
/// # Errors
/// [`SessionError`] when the connection cannot go on. An operation that merely failed is an answer and no error.
pub async fn serve(agent: &Agent, connection: &mut Connection, frame: Frame) -> Result<(), SessionError> {
    let Frame { header, payload } = frame;
    let id = header.id;
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
        Kind::ShutdownRequest => shutdown::run(agent, connection, id, &codec::decode(&payload)?).await,
        Kind::ExecRequest => exec::run(agent, connection, id, &codec::decode(&payload)?).await,
        Kind::OutputRequest => output::run(agent, connection, id, &codec::decode(&payload)?).await,
        Kind::FileStatRequest
        | Kind::FileListRequest
        | Kind::MakeDirRequest
        | Kind::RemoveRequest
        | Kind::RenameRequest => file::run(&mut connection.writer, id, header.kind, &payload).await,
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
        | Kind::Error => {
            Err(SessionError::Unexpected { kind: header.kind, expected: "a host sends requests" })
        }
    }
}

/// Sends a unary operation's answer, or its error under the same id.
async fn answer(
    writer: &mut FrameWriter,
    id: u64,
    kind: Kind,
    result: Result<Result<Vec<u8>, CodecError>, AgentError>,
) -> Result<(), SessionError> {
    match result {
        Ok(payload) => Ok(writer.send(kind, id, &payload?).await?),
        Err(error) => Ok(writer.send(Kind::Error, id, &codec::encode(&error)?).await?),
    }
}
