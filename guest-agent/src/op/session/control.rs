//! What is asked about sessions on connections other than theirs.

use std::io;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::session::{
    SessionResizeRequest, SessionSignalRequest, SessionWaitRequest, Sessions,
};

use crate::agent::Agent;
use crate::failure;
use crate::session::SessionError;
use crate::wire::Connection;

const SIGNALS: std::ops::RangeInclusive<u8> = 1..=64;

/// Every session, oldest first.
#[must_use]
pub fn list(agent: &Agent) -> Sessions {
    agent.sessions.list()
}

/// Signals a session.
///
/// # Errors
/// When there is no such session, or no such signal.
pub fn signal(agent: &Agent, request: &SessionSignalRequest) -> Result<(), AgentError> {
    if !SIGNALS.contains(&request.number) {
        return Err(failure::invalid("signal", "signals are numbered 1 to 64"));
    }
    agent.sessions.find(request.id)?.signal(request.number);
    Ok(())
}

/// Changes the size of a session's terminal.
///
/// # Errors
/// When there is no such session, it has no terminal, or as `TIOCSWINSZ`.
pub fn resize(agent: &Agent, request: &SessionResizeRequest) -> Result<(), AgentError> {
    let session = agent.sessions.find(request.id)?;
    let Some(terminal) = session.terminal() else {
        return Err(failure::invalid("resize", format!("session {} has no terminal", request.id)));
    };
    let resized: io::Result<()> = terminal.resize(request.window);
    resized.map_err(|error| failure::system("resize", None, &error))
}

/// Waits for a session's end, or for the host's.
///
/// # Errors
/// [`SessionError`] when the host went away or broke the protocol.
pub async fn wait(
    agent: &Agent,
    connection: &mut Connection,
    id: u64,
    request: &SessionWaitRequest,
) -> Result<(), SessionError> {
    let session = match agent.sessions.find(request.id) {
        Ok(session) => session,
        Err(error) => return super::refuse(&mut connection.writer, id, &error).await,
    };
    let end = tokio::select! {
        end = session.ended() => end,
        frame = connection.reader.next() => return match frame? {
            None => Ok(()),
            Some(frame) => Err(SessionError::Unexpected {
                kind: frame.header.kind,
                expected: "the connection belongs to a wait, which takes nothing",
            }),
        },
    };
    Ok(connection.writer.send(Kind::SessionEnd, id, &codec::encode(&end)?).await?)
}
