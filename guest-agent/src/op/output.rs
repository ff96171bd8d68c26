//! The program's output, streamed to the monitor.
//!
//! One monitor at a time reads. A second request takes the first one's place: it is the monitor that was started after the
//! first was killed, and whose connection may linger.

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::output::{OutputAck, OutputEnd, OutputRequest, Stream};

use crate::agent::Agent;
use crate::failure;
use crate::program_output::flow::{Flow, Subscription};
use crate::program_output::{Next, ProgramOutput, Subscriber, other};
use crate::session::SessionError;
use crate::wire::{Connection, FrameReader, FrameWriter};

const OPERATION: &str = "stream output";

/// Streams until both streams have ended and the host has acknowledged all of them.
///
/// # Errors
/// [`SessionError`] when the host went away or broke the protocol.
pub async fn run(
    agent: &Agent,
    connection: &mut Connection,
    id: u64,
    request: &OutputRequest,
) -> Result<(), SessionError> {
    let Connection { reader, writer, .. } = connection;
    let Some(output) = &agent.output else {
        return refuse(
            writer,
            id,
            failure::invalid(OPERATION, "the init of this VM keeps no program output"),
        )
        .await;
    };
    let subscriber = match output.subscribe(request.from) {
        Ok(subscriber) => subscriber,
        Err(error) => return refuse(writer, id, failure::invalid(OPERATION, error.to_string())).await,
    };
    let subscription = subscriber.subscription();
    tokio::select! {
        sent = send(output, writer, id, subscriber) => sent,
        left = receive(output, reader, id, subscription) => left,
    }
}

async fn refuse(writer: &mut FrameWriter, id: u64, error: AgentError) -> Result<(), SessionError> {
    Ok(writer.send(Kind::Error, id, &codec::encode(&error)?).await?)
}

async fn send(
    output: &ProgramOutput,
    writer: &mut FrameWriter,
    id: u64,
    mut subscriber: Subscriber<'_>,
) -> Result<(), SessionError> {
    let mut turn = Stream::Stdout;
    loop {
        match subscriber.next(turn).await {
            Ok(Next::Chunk(chunk)) => {
                turn = other(chunk.stream);
                writer.send(Kind::OutputChunk, id, &codec::encode(&chunk)?).await?;
            }
            Ok(Next::End(end)) => {
                writer.send(Kind::OutputEnd, id, &codec::encode(&OutputEnd { end })?).await?;
                subscriber.told_end();
                // It fails only when the agent ends, and this task with it.
                let _ = output.watch().wait_for(Flow::is_settled).await;
                return Ok(());
            }
            Ok(Next::Superseded) => {
                return refuse(writer, id, failure::busy(OPERATION, "another reader took over")).await;
            }
            Err(error) => return refuse(writer, id, failure::system(OPERATION, None, &error)).await,
        }
    }
}

/// Takes acknowledgements, until the last of them or until the host closes the connection.
async fn receive(
    output: &ProgramOutput,
    reader: &mut FrameReader,
    id: u64,
    subscription: Subscription,
) -> Result<(), SessionError> {
    while let Some(frame) = reader.next().await? {
        let unexpected = |expected| SessionError::Unexpected { kind: frame.header.kind, expected };
        if frame.header.kind != Kind::OutputAck || frame.header.id != id {
            return Err(unexpected("the connection belongs to the output, which takes OutputAck"));
        }
        let OutputAck { written } = codec::decode(&frame.payload)?;
        let acknowledged = output.acknowledge(subscription, written);
        acknowledged.map_err(|_| unexpected("nothing beyond the streams' ends can be acknowledged"))?;
        let flow = output.watch();
        if flow.borrow().is_settled() && flow.borrow().is_current(subscription) {
            // The next frame is a request again, and must not be read here.
            return Ok(());
        }
    }
    Ok(())
}
