//! What comes from a session.

use std::time::Duration;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::exec::ExecOutcome;
use firstlight_protocol::message::output::Stream;
use firstlight_protocol::message::session::{SessionAck, SessionChunk, SessionEnd, SessionInputTaken};
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::connection::{Receiver, expect};
use super::super::error::Error;
use super::outgoing::Outgoing;

/// How long the agent may take to take the last acknowledgement. Without it the agent remembers the session for longer
/// than it needs to, and that is all.
const LAST_ACK: Duration = Duration::from_secs(2);

/// What a session does, in order. [`Event::Ended`] is the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It wrote.
    Output {
        /// To which stream.
        stream: Stream,
        /// What.
        bytes: Vec<u8>,
    },
    /// Output went before it could be read: so many bytes.
    Dropped(u64),
    /// It ended.
    Ended(ExecOutcome),
}

/// What comes from the command. Dropping it detaches from the session, which goes on.
pub struct Output {
    receiver: Receiver,
    id: u64,
    position: u64,
    taken: watch::Sender<u64>,
    outgoing: Outgoing,
    /// A chunk that came after a gap, while the gap is being told.
    held: Option<SessionChunk>,
    ended: Option<ExecOutcome>,
}

impl Output {
    pub(super) fn new(
        receiver: Receiver,
        id: u64,
        position: u64,
        taken: watch::Sender<u64>,
        outgoing: Outgoing,
    ) -> Output {
        Output { receiver, id, position, taken, outgoing, held: None, ended: None }
    }

    /// Bytes of the session's output before the next that this will hand out.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next event; whatever was handed out before now counts as read. Dropping the future loses nothing, so it may stand
    /// in a `select!`.
    ///
    /// # Errors
    /// [`Error::Protocol`], or [`Error::Lost`] when the connection ends before the session does.
    pub async fn next(&mut self) -> Result<Event, Error> {
        if let Some(chunk) = self.held.take() {
            return Ok(self.hand_out(chunk));
        }
        self.acknowledge(false);
        while self.ended.is_none() {
            let (header, payload) = self.receiver.recv().await?;
            if header.id != self.id {
                return Err(Error::Protocol(format!("frame {:?} belongs to no session", header.kind)));
            }
            if header.kind == Kind::SessionChunk {
                let chunk: SessionChunk = codec::decode(&payload)?;
                return self.accept(chunk);
            } else if header.kind == Kind::SessionInputTaken {
                let SessionInputTaken { bytes } = codec::decode(&payload)?;
                self.taken.send_replace(bytes);
            } else {
                let end: SessionEnd = codec::decode(&expect(Kind::SessionEnd, header.kind, payload)?)?;
                self.ended = Some(end.outcome);
            }
        }
        self.acknowledge(true);
        let _ = timeout(LAST_ACK, &mut self.outgoing.task).await;
        let unasked = || Error::Protocol("the session ended already".into());
        self.ended.clone().map(Event::Ended).ok_or_else(unasked)
    }

    fn acknowledge(&self, end: bool) {
        let ack = SessionAck { through: self.position, end };
        self.outgoing.acks.send_if_modified(|last| std::mem::replace(last, ack) != ack);
    }

    fn accept(&mut self, chunk: SessionChunk) -> Result<Event, Error> {
        let Some(gap) = chunk.sequence.checked_sub(self.position) else {
            return Err(Error::Protocol(format!("output at {} came twice", chunk.sequence)));
        };
        if gap == 0 {
            return Ok(self.hand_out(chunk));
        }
        self.position = chunk.sequence;
        self.held = Some(chunk);
        Ok(Event::Dropped(gap))
    }

    fn hand_out(&mut self, chunk: SessionChunk) -> Event {
        self.position = chunk.sequence + chunk.bytes.len() as u64;
        Event::Output { stream: chunk.stream, bytes: chunk.bytes }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.outgoing.task.abort();
    }
}
