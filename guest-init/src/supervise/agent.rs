//! The agent's process: started, waited for until it is ready, and started again when it ends.
//!
//! ```text
//!  start ──► Starting ──READY=1──► Ready
//!    EOF, late  │  ▲                 │
//!               ▼  │ backoff         │
//!       Condemned  │                 │
//!               │  │                 │
//!         ended └► Down ◄── ended ───┘
//! ```

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use firstlight_protocol::agent_config::READY_LINE;
use firstlight_protocol::sentinel::{Event, ExitStatus};
use nix::errno::Errno;
use nix::unistd::{Pid, read};

use super::words;
use crate::driver::Turn;
use crate::error::Fault;
use crate::stage::agent::{Inheritance, PATH, Started};
use crate::sys::kill;
use crate::wait::{Backoff, Deadline};

/// The longest pause before the agent is started again.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// An agent that was ready for this long has recovered: the next pause is the shortest again.
const STABLE: Duration = Duration::from_secs(10);

/// The agent.
#[derive(Debug)]
pub(super) struct Keeper {
    inheritance: Inheritance,
    state: State,
    ready_timeout_ms: u32,
    restarts: u32,
    backoff: Backoff,
    /// The stage that ends when the agent is ready for the first time.
    turn: Option<Turn>,
}

#[derive(Debug)]
enum State {
    Starting {
        pid: Pid,
        started: Started,
        deadline: Deadline,
    },
    Ready {
        pid: Pid,
        stable_at: Deadline,
    },
    /// Killed, and not reaped yet.
    Condemned {
        pid: Pid,
    },
    Down {
        until: Deadline,
    },
}

/// What the agent's life means to the rest of the boot.
#[derive(Debug)]
pub(super) enum News {
    /// It is ready; with a turn, for the first time.
    Ready(Option<Turn>),
    /// It could not be started for the first time.
    Failed(Turn, Fault),
}

impl Keeper {
    /// Starts the agent for the first time.
    ///
    /// # Errors
    /// What can be told before the fork.
    pub(super) fn start(
        inheritance: Inheritance,
        ready_timeout_ms: u32,
        turn: Turn,
        stdio: Stdio<'_>,
    ) -> Result<Keeper, Fault> {
        let started = inheritance.start(stdio.null, stdio.console)?;
        let state = starting(started, ready_timeout_ms);
        let backoff = Backoff::new(MAX_PAUSE);
        Ok(Keeper { inheritance, state, ready_timeout_ms, restarts: 0, backoff, turn: Some(turn) })
    }

    /// The process, when there is one.
    pub(super) fn pid(&self) -> Option<Pid> {
        match &self.state {
            State::Starting { pid, .. } | State::Ready { pid, .. } | State::Condemned { pid } => Some(*pid),
            State::Down { .. } => None,
        }
    }

    /// The readiness pipe, while it is waited for.
    pub(super) fn pending(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Starting { started, .. } => Some(started.ready.as_fd()),
            State::Ready { .. } | State::Condemned { .. } | State::Down { .. } => None,
        }
    }

    /// When [`Keeper::on_time`] has something to do.
    pub(super) fn deadline(&self) -> Option<Deadline> {
        match &self.state {
            State::Starting { deadline, .. } => Some(*deadline),
            State::Down { until } => Some(*until),
            State::Ready { .. } | State::Condemned { .. } => None,
        }
    }

    /// The readiness pipe has something, or its end, to be read.
    pub(super) fn on_pipe(&mut self) -> Option<News> {
        let State::Starting { pid, started, .. } = &self.state else { return None };
        let mut line = [0; READY_LINE.len()];
        let count = read(started.ready.as_fd(), &mut line).unwrap_or(0);
        if line.get(..count) == Some(READY_LINE) {
            self.state = State::Ready { pid: *pid, stable_at: Deadline::after(STABLE) };
            return Some(News::Ready(self.turn.take()));
        }
        self.give_up("closed its readiness pipe without saying READY=1", Errno::EPIPE)
    }

    /// A process was reaped. Gives the event to report when it was the agent's.
    pub(super) fn on_exit(&mut self, pid: Pid, status: ExitStatus) -> (Option<Event>, Option<News>) {
        if self.pid() != Some(pid) {
            return (None, None);
        }
        if let Some(turn) = self.turn.take() {
            let fault =
                self.start_fault(&format!("ended before it was ready ({})", words(status)), Errno::ECHILD);
            self.state = State::Down { until: Deadline::after(self.backoff.next()) };
            return (None, Some(News::Failed(turn, fault)));
        }
        if let State::Ready { stable_at, .. } = &self.state
            && stable_at.passed()
        {
            self.backoff.reset();
        }
        self.restarts = self.restarts.saturating_add(1);
        self.state = State::Down { until: Deadline::after(self.backoff.next()) };
        (Some(Event::AgentExit { status, restarts: self.restarts }), None)
    }

    /// A deadline may have passed: the one for readiness, or the pause before the next start.
    pub(super) fn on_time(&mut self, stdio: Stdio<'_>) -> Option<News> {
        match &self.state {
            State::Starting { deadline, .. } if deadline.passed() => {
                let waited = format!("did not say READY=1 within {} ms", self.ready_timeout_ms);
                self.give_up(&waited, Errno::ETIMEDOUT)
            }
            State::Down { until } if until.passed() => {
                self.state = match self.inheritance.start(stdio.null, stdio.console) {
                    Ok(started) => starting(started, self.ready_timeout_ms),
                    // The machine is short of processes or memory; so was the agent's predecessor, most likely.
                    Err(_) => State::Down { until: Deadline::after(self.backoff.next()) },
                };
                None
            }
            State::Starting { .. } | State::Ready { .. } | State::Condemned { .. } | State::Down { .. } => {
                None
            }
        }
    }

    /// Ends a start that leads nowhere. The first one fails the boot, a later one is tried again when the process
    /// has been reaped.
    fn give_up(&mut self, why: &str, errno: Errno) -> Option<News> {
        let pid = self.pid()?;
        // ESRCH: it ends at this moment, and the reaper will hear of it.
        let _ = kill(pid.as_raw(), nix::libc::SIGKILL);
        let news = self.turn.take().map(|turn| News::Failed(turn, self.start_fault(why, errno)));
        self.state = State::Condemned { pid };
        news
    }

    /// Why the start failed: an `execve` that did is the reason for all else.
    fn start_fault(&self, why: &str, errno: Errno) -> Fault {
        let fault = |errno, error| Fault { errno: Some(errno), path: Some(PATH.to_owned()), error };
        let outcome = match &self.state {
            State::Starting { started, .. } => started.child.outcome().err(),
            State::Ready { .. } | State::Condemned { .. } | State::Down { .. } => None,
        };
        match outcome {
            Some((step, errno)) => fault(errno, format!("{}: {}", step.words(), errno.desc())),
            None => fault(errno, format!("the agent {why}")),
        }
    }
}

/// What the agent has instead of a terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stdio<'a> {
    pub(super) null: BorrowedFd<'a>,
    pub(super) console: BorrowedFd<'a>,
}

fn starting(started: Started, ready_timeout_ms: u32) -> State {
    State::Starting { pid: started.child.pid, started, deadline: Deadline::after_ms(ready_timeout_ms) }
}
