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

use crate::gate::Running;

/// Requests of one connection under way at one time. Each holds a frame at most. When there are so many, no further frame is read
/// before one of them is answered, so that a connection whose requests all hang stands still, and others do not.
const MAX_UNDER_WAY: usize = 8;

/// An answer's bytes, or the error in its place.
pub type Answer = Result<Result<Vec<u8>, CodecError>, AgentError>;

/// A request, for as long as it is under way.
#[derive(Debug)]
pub struct Request {
    /// Its id.
    pub id: u64,
    /// What its answer is if it is no error.
    pub answer: Kind,
    /// Its pass through the gate.
    pub running: Running,
}

/// What a request has come to. Until it is sent, the request is under way.
#[derive(Debug)]
pub struct Reply {
    /// What was asked.
    pub request: Request,
    /// The answer.
    pub result: Answer,
}

/// The requests under way. A host that goes away ends none of them.
#[derive(Debug, Default)]
pub struct UnderWay {
    tasks: JoinSet<Reply>,
    ids: HashMap<Id, u64>,
}

impl UnderWay {
    /// Whether there may be one more.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.ids.len() < MAX_UNDER_WAY
    }

    /// Whether a request under way has this id.
    #[must_use]
    pub fn has(&self, id: u64) -> bool {
        self.ids.values().any(|used| *used == id)
    }

    /// Begins what ends in the answer to `request`.
    pub fn begin(&mut self, request: Request, answer: impl Future<Output = Answer> + Send + 'static) {
        let id = request.id;
        let task = self.tasks.spawn(async move { Reply { request, result: answer.await } });
        self.ids.insert(task.id(), id);
    }

    /// The next answer, in the order in which they come about; `None` when nothing is under way. Can be given up.
    pub async fn next(&mut self) -> Option<Reply> {
        loop {
            match self.tasks.join_next_with_id().await? {
                Ok((task, reply)) => {
                    self.ids.remove(&task);
                    return Some(reply);
                }
                // A task is lost only when the agent ends, and the connection with it.
                Err(lost) => drop(self.ids.remove(&lost.id())),
            }
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.tasks.detach_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::gate::Gate;

    #[tokio::test(start_paused = true)]
    async fn the_gate_waits_for_a_request_whose_host_has_gone() {
        const SOON: Duration = Duration::from_millis(50);
        let gate = Arc::new(Gate::default());
        let (end, ended) = oneshot::channel();
        let mut under_way = UnderWay::default();
        let running = gate.enter(Kind::FileStatRequest).unwrap();
        under_way.begin(Request { id: 1, answer: Kind::FileStat, running }, async {
            ended.await.unwrap();
            Ok(Ok(Vec::new()))
        });
        drop(under_way);
        assert!(!gate.drain(SOON).await);
        end.send(()).unwrap();
        assert!(gate.drain(SOON).await);
    }
}
