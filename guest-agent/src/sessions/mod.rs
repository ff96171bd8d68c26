//! Commands that outlive whoever asked for them, and what they write.
//!
//! ```text
//!  ExecRequest ─► Processes ─► Session ── pump ─► Log { Ring } ─► Reader ─► host     as many readers as come
//!                                 ▲                  ▲ one of them holds: the command waits for it
//!                               Input ◄── queue ◄────┴───────────────────── host
//! ```
//!
//! Everything is bounded: commands by [`Processes`], ended sessions by [`MAX_ENDED`] and [`ENDED_FOR`], what each keeps by
//! `ring::MAX_BYTES`, and what all keep by [`MAX_BYTES`] besides a small floor for each.

mod budget;
mod input;
mod log;
mod reader;
mod ring;
mod session;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::session as wire;
use firstlight_protocol::message::session::{SessionKey, SessionStartRequest};
use tokio::time::Instant;

use crate::process::Processes;
use crate::{clock, failure};
use budget::Budget;
use log::Log;
pub(crate) use reader::{Acknowledger, Next, Reader};
pub(crate) use session::Session;

/// Bytes of output kept in all, besides `ring::FLOOR` for each session.
const MAX_BYTES: usize = 8 << 20;

/// Ended sessions that are remembered. One more, and the oldest is forgotten.
const MAX_ENDED: usize = 64;

/// How long an ended session is remembered.
const ENDED_FOR: Duration = Duration::from_mins(10);

/// Every session of this agent.
#[derive(Debug)]
pub(crate) struct Sessions {
    processes: Arc<Processes>,
    budget: Budget,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    last: u64,
    sessions: BTreeMap<u64, Arc<Session>>,
    /// Sessions that have ended, and when, in the order of that.
    ended: VecDeque<(u64, Instant)>,
}

/// A session just started, and its reader unless it is detached.
pub(crate) type Started = (Arc<Session>, Option<Reader>);

impl Sessions {
    pub(crate) fn new(processes: Arc<Processes>) -> Sessions {
        Sessions { processes, budget: Budget::new(MAX_BYTES), table: Mutex::default() }
    }

    /// Starts a command as a session. Its reader, if it is to have one, sees its first byte.
    ///
    /// # Errors
    /// As [`Processes::start`].
    pub(crate) async fn start(
        self: &Arc<Sessions>,
        request: &SessionStartRequest,
    ) -> Result<Started, AgentError> {
        let SessionStartRequest { command, terminal, detached } = request;
        let process = self.processes.start(command, *terminal).await?;
        let mut log = Log::new(self.budget.clone());
        let place = if *detached { None } else { log.attach(None, true).ok() };
        let started_ns = clock::boottime_ns().unwrap_or(0);
        let mut table = self.table();
        table.prune(&self.budget);
        table.last += 1;
        let key = SessionKey { id: table.last, started_ns };
        let (session, running) = Session::new(key, &command.argv, *detached, log, process);
        table.sessions.insert(key.id, Arc::clone(&session));
        drop(table);
        let (ended, sessions) = (Arc::clone(&session), Arc::clone(self));
        tokio::spawn(async move {
            ended.run(running, &sessions.processes).await;
            sessions.table().end(key.id, &sessions.budget);
        });
        let reader = place.map(|place| Reader::new(Arc::clone(&session), Arc::clone(self), place));
        Ok((session, reader))
    }

    /// Attaches one more reader.
    ///
    /// # Errors
    /// When there is no such session, or it has not come so far.
    pub(crate) fn attach(
        self: &Arc<Sessions>,
        request: &wire::SessionAttachRequest,
    ) -> Result<Reader, AgentError> {
        let session = self.find(request.id)?;
        let mut place = None;
        session.log.send_modify(|log| place = Some(log.attach(request.from, request.take_over)));
        match place {
            Some(Ok(place)) => Ok(Reader::new(session, Arc::clone(self), place)),
            Some(Err(past_end)) => Err(failure::invalid("attach", past_end.to_string())),
            None => Err(failure::busy("attach", "the session is gone")),
        }
    }

    /// The session with this number.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn find(&self, id: u64) -> Result<Arc<Session>, AgentError> {
        let found = self.table().sessions.get(&id).cloned();
        found.ok_or_else(|| {
            failure::invalid("find session", format!("there is no session {id}, or it ended a while ago"))
        })
    }

    /// Every session, oldest first.
    pub(crate) fn list(&self) -> wire::Sessions {
        let mut table = self.table();
        table.prune(&self.budget);
        wire::Sessions { sessions: table.sessions.values().map(|session| session.describe()).collect() }
    }

    /// Nobody will ask for this session again.
    fn forget(&self, session: &Session) {
        session.log.send_modify(Log::clear);
        let mut table = self.table();
        table.sessions.remove(&session.key.id);
        table.ended.retain(|(id, _)| *id != session.key.id);
    }

    /// No code panics while it holds the lock, and the table would be whole if it did.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// A session has ended, if nobody has heard of that and made it forgotten.
    fn end(&mut self, id: u64, budget: &Budget) {
        if self.sessions.contains_key(&id) {
            self.ended.push_back((id, Instant::now()));
        }
        self.prune(budget);
    }

    /// Forgets ended sessions: those that ended too long ago, the oldest of too many, and the oldest while the budget is too
    /// small for another full ring.
    fn prune(&mut self, budget: &Budget) {
        while let Some((oldest, ended)) = self.ended.front() {
            let is_recent = ended.elapsed() < ENDED_FOR;
            if is_recent && self.ended.len() <= MAX_ENDED && budget.left() >= ring::MAX_BYTES {
                return;
            }
            self.sessions.remove(oldest);
            self.ended.pop_front();
        }
    }
}
