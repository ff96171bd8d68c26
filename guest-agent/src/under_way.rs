//! Requests of one connection that take their time, so that those behind them need not.
//!
//! What waits for the disk or runs commands may wait for ever, on a file system that hangs. It is therefore done beside the
//! connection, and answered under its id when it is done; who depends on an order waits for the answer, or sends a batch.

use std::collections::HashMap;
use std::future::Future;

use firstlight_protocol::codec::CodecError;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::AgentError;
use tokio::task::{Id, JoinSet};

use crate::failure;

/// Requests of one connection under way at one time. Each holds a frame at most. When there are so many, no further frame is read
/// before one of them is answered, so that a connection whose requests all hang stands still, and others do not.
const MAX_UNDER_WAY: usize = 8;

/// An answer's bytes, or the error in its place.
pub type Answer = Result<Result<Vec<u8>, CodecError>, AgentError>;

/// An answer, and where it belongs.
#[derive(Debug)]
pub struct Reply {
    /// The request's id.
    pub id: u64,
    /// What the answer is if it is no error.
    pub kind: Kind,
    /// The answer.
    pub answer: Answer,
}

/// The requests under way.
#[derive(Debug, Default)]
pub struct UnderWay {
    answers: JoinSet<Answer>,
    requests: HashMap<Id, (u64, Kind)>,
}

impl UnderWay {
    /// Whether there may be one more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.requests.len() < MAX_UNDER_WAY
    }

    /// Whether a request under way has this id.
    #[must_use]
    pub fn has(&self, id: u64) -> bool {
        self.requests.values().any(|(used, _)| *used == id)
    }

    /// Begins what ends in an answer of `kind` to request `id`.
    pub fn begin(&mut self, id: u64, kind: Kind, answer: impl Future<Output = Answer> + Send + 'static) {
        let task = self.answers.spawn(answer).id();
        self.requests.insert(task, (id, kind));
    }

    /// The next answer, in the order in which they come about; `None` when nothing is under way. Can be given up.
    pub async fn next(&mut self) -> Option<Reply> {
        loop {
            let (task, answer) = match self.answers.join_next_with_id().await? {
                Ok((task, answer)) => (task, answer),
                // A task is lost only when the agent ends, and the connection with it.
                Err(lost) => (lost.id(), Err(failure::busy("run", "the agent ends"))),
            };
            if let Some((id, kind)) = self.requests.remove(&task) {
                return Some(Reply { id, kind, answer });
            }
        }
    }
}

impl Drop for UnderWay {
    /// A host that goes away ends nothing.
    fn drop(&mut self) {
        self.answers.detach_all();
    }
}
