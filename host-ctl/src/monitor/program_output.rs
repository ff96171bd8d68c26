//! The program's output, from the agent into the output log.

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::output::{OutputAck, OutputChunk, OutputRequest};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::closing::Closing;
use super::input::Input;
use crate::agent::{Connection, Error};
use crate::backoff::{Backoff, jitter};
use crate::clock::Stamp;
use crate::log::OutputLog;

use super::agent_calls::Agent;

/// How long the agent may take to take a connection.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// How long a full disk is left alone before the next try. The program waits meanwhile, and after a while the agent
/// lets the oldest bytes go.
const DISK_RETRY: Duration = Duration::from_millis(250);

/// Why a stream of output ended.
enum End {
    /// No process of the guest can write any more, and all is in the log.
    Complete,
    /// The agent keeps no output in this mode.
    None,
    /// The connection broke: the agent was killed, or the VM ended.
    Lost,
}

/// Writes down all output until it ends, however often the agent is restarted, or until `closing` and the end of what
/// is still on its way.
pub(super) async fn run(agent: Agent, mut log: OutputLog, inputs: mpsc::Sender<Input>, mut closing: Closing) {
    let mut backoff = None;
    loop {
        let before = *log.position();
        match stream(&agent, &mut log, &inputs).await {
            End::Complete | End::None => return,
            End::Lost => {}
        }
        if *log.position() != before {
            backoff = None;
        }
        // The VM's end is the only deadline, and that is what `closing` says.
        let backoff = backoff.get_or_insert_with(|| Backoff::new(Instant::now() + Duration::MAX / 4, jitter));
        let Some(next) = backoff.next(Instant::now()) else { return };
        tokio::select! {
            () = sleep_until(next) => {}
            () = closing.told() => return,
        }
    }
}

async fn stream(agent: &Agent, log: &mut OutputLog, inputs: &mpsc::Sender<Input>) -> End {
    match try_stream(agent, log, inputs).await {
        Ok(end) => end,
        Err(Error::Agent(AgentError { .. })) => End::None,
        Err(
            Error::Unreachable { .. }
            | Error::Refused(_)
            | Error::Protocol(_)
            | Error::Timeout(_)
            | Error::Lost(_)
            | Error::TooLarge(_)
            | Error::Pool(_),
        ) => End::Lost,
    }
}

async fn try_stream(agent: &Agent, log: &mut OutputLog, inputs: &mpsc::Sender<Input>) -> Result<End, Error> {
    agent.road.travel().await;
    let mut connection =
        Connection::open(&agent.address, &agent.token, Instant::now() + OPEN_DEADLINE).await?;
    let id = connection.fresh_id();
    let request = OutputRequest { from: log.position().streams() };
    connection.send(Kind::OutputRequest, id, &request).await?;
    loop {
        let (header, payload) = connection.recv().await?;
        if header.kind == Kind::OutputChunk {
            let chunk: OutputChunk = codec::decode(&payload)?;
            write(log, &chunk).await;
            let _ = inputs.send(Input::OutputGrew).await;
        } else if header.kind == Kind::Error {
            return Err(codec::decode::<AgentError>(&payload)?.into());
        } else if header.kind != Kind::OutputEnd {
            return Err(Error::Protocol(format!("{:?} among output", header.kind)));
        }
        let written = log.position().streams();
        connection.send(Kind::OutputAck, id, &OutputAck { written }).await?;
        if header.kind == Kind::OutputEnd {
            return Ok(End::Complete);
        }
    }
}

async fn write(log: &mut OutputLog, chunk: &OutputChunk) {
    let received = Stamp::now().wall_ns;
    while log.append(received, chunk.stream, chunk.sequence, &chunk.bytes).is_err() {
        sleep(DISK_RETRY).await;
    }
}
