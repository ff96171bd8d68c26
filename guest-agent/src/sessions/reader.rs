//! One connection's place in a session.

use std::sync::Arc;

use firstlight_protocol::codec::{self, CodecError};
use firstlight_protocol::message::exec::MAX_CHUNK;
use firstlight_protocol::message::session::{SessionChunkRef, SessionEnd, SessionInputTaken};
use tokio::sync::watch;

use super::Sessions;
use super::input::Queue;
use super::log::{Log, PastEnd, ReaderId};
use super::session::Session;

/// Bytes of output sent in one go. Half of what a frame may hold costs little and halves what a reader holds.
const CHUNK: usize = MAX_CHUNK / 2;

/// Reads a session; detached when dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    session: Arc<Session>,
    sessions: Arc<Sessions>,
    id: ReaderId,
    next: u64,
    log: watch::Receiver<Log>,
    input: watch::Receiver<Queue>,
    told_taken: u64,
}

/// What a reader is to be told next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Output, encoded into the buffer.
    Chunk,
    /// Input has been taken.
    InputTaken(SessionInputTaken),
    /// The session is over, and its output told.
    End(SessionEnd),
}

impl Reader {
    pub(super) fn new(session: Arc<Session>, sessions: Arc<Sessions>, (id, next): (ReaderId, u64)) -> Reader {
        let (log, input) = (session.log.subscribe(), session.input.watch());
        let told_taken = input.borrow().taken();
        Reader { session, sessions, id, next, log, input, told_taken }
    }

    /// The session it reads.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Bytes of input that have come so far, from whomever.
    pub(crate) fn input_received(&self) -> u64 {
        self.input.borrow().received()
    }

    /// Who it is, to acknowledge with.
    pub(crate) fn acknowledger(&self) -> Acknowledger {
        Acknowledger { session: Arc::clone(&self.session), sessions: Arc::clone(&self.sessions), id: self.id }
    }

    /// Waits for what is to be told next. A chunk goes into `buffer`, which holds memory only while there is output. Can be
    /// given up and called again.
    ///
    /// # Errors
    /// None that a chunk of this size has.
    pub(crate) async fn next(&mut self, buffer: &mut Vec<u8>) -> Result<Next, CodecError> {
        loop {
            let taken = self.input.borrow_and_update().taken();
            if taken != self.told_taken {
                self.told_taken = taken;
                return Ok(Next::InputTaken(SessionInputTaken { bytes: taken }));
            }
            {
                let log = self.log.borrow_and_update();
                if let Some((sequence, stream, bytes)) = log.read(self.next, CHUNK) {
                    codec::encode_into(buffer, &SessionChunkRef { stream, sequence, bytes })?;
                    self.next = sequence + bytes.len() as u64;
                    return Ok(Next::Chunk);
                }
                if let Some(outcome) = log.outcome().filter(|_| log.is_finished()) {
                    return Ok(Next::End(SessionEnd { sequence: log.end(), outcome: outcome.clone() }));
                }
            }
            *buffer = Vec::new();
            // Both channels live as long as the session.
            tokio::select! {
                _ = self.log.changed() => {}
                _ = self.input.changed() => {}
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.session.leave(self.id);
    }
}

/// The other half of a reader: what its host has.
#[derive(Debug)]
pub(crate) struct Acknowledger {
    session: Arc<Session>,
    sessions: Arc<Sessions>,
    id: ReaderId,
}

impl Acknowledger {
    /// The host has everything before `through`.
    ///
    /// # Errors
    /// [`PastEnd`].
    pub(crate) fn acknowledge(&self, through: u64) -> Result<(), PastEnd> {
        let mut result = Ok(());
        self.session.log.send_modify(|log| result = log.acknowledge(self.id, through));
        result
    }

    /// The host knows how the session ended. Nobody else will ask, unless it was meant to be asked about later.
    pub(crate) fn acknowledge_end(&self) {
        if !self.session.is_detached() {
            self.sessions.forget(&self.session);
        }
    }

    /// Adds to the command's input.
    pub(crate) async fn write(&self, bytes: &[u8]) {
        self.session.input.write(bytes).await;
    }

    /// Ends the command's input.
    pub(crate) fn end_input(&self) {
        self.session.input.end();
    }
}
