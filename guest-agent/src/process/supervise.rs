//! Waiting for one command, and ending it when its time is up.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use firstlight_protocol::message::exec::ExecOutcome;
use firstlight_protocol::sentinel::ExitStatus;
use tokio::io::Interest;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::cgroup::Cgroup;
use crate::sys::{self, Watched};

/// What a shell reports for a command that got SIGKILL.
const KILLED: u8 = 128 + 9;

/// A command and all it started: its process group, and its cgroup where there is one.
#[derive(Debug)]
pub struct Group {
    leader: u32,
    cgroup: Option<Cgroup>,
    /// Once the leader is reaped the kernel may give its number to others.
    reaped: AtomicBool,
}

impl Group {
    pub(super) fn new(leader: u32, cgroup: Option<Cgroup>) -> Group {
        Group { leader, cgroup, reaped: AtomicBool::new(false) }
    }

    /// Signals every process of the group. One that has ended already is no error: the sender could not know.
    pub fn signal(&self, number: u8) {
        let leader = i32::try_from(self.leader).ok().filter(|_| !self.reaped.load(Ordering::Relaxed));
        if let Some(leader) = leader {
            let _ = sys::kill(-leader, number.into());
        }
    }

    /// Kills the command and all it started. Without a cgroup, what left the process group gets away.
    pub fn kill(&self) {
        if !self.cgroup.as_ref().is_some_and(Cgroup::kill) {
            self.signal(SIGKILL);
        }
    }
}

/// A descriptor that becomes readable when its process ends.
#[derive(Debug)]
pub(super) struct PidFd(Watched);

impl PidFd {
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<PidFd> {
        sys::watch(descriptor, Interest::READABLE).map(PidFd)
    }

    /// Waits for the end, without reaping.
    async fn ended(&self) -> ExitStatus {
        let status = self.0.async_io(Interest::READABLE, sys::peek_exit).await;
        // Only a child that somebody else has reaped has no status, and nobody else waits for ours.
        status.unwrap_or(ExitStatus::Signal(0))
    }
}

/// All it takes to see one command to its end.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) pidfd: PidFd,
    pub(super) group: std::sync::Arc<Group>,
    pub(super) timeout: Option<Duration>,
    pub(super) kill_after: Duration,
    pub(super) outcome: watch::Sender<Option<ExecOutcome>>,
    pub(super) place: OwnedSemaphorePermit,
}

impl Supervisor {
    /// Waits for the command and publishes its outcome.
    pub(super) async fn run(self) {
        match self.natural_end().await {
            Some(status) => self.publish(self.classify(status)),
            None => self.time_out().await,
        }
        self.group.reaped.store(true, Ordering::Relaxed);
        let _ = sys::reap(&self.pidfd.0);
        drop(self.place);
    }

    /// How the command ended on its own, or `None` when its time was up first.
    async fn natural_end(&self) -> Option<ExitStatus> {
        match self.timeout {
            None => Some(self.pidfd.ended().await),
            Some(limit) => timeout(limit, self.pidfd.ended()).await.ok(),
        }
    }

    /// SIGTERM to the process group, then SIGKILL to all that is left of the command. A leader that obeys SIGTERM is told of at once, but stays
    /// unreaped until its group has had its time: the number is still the group's.
    async fn time_out(&self) {
        self.group.signal(SIGTERM);
        let deadline = Instant::now() + self.kill_after;
        let obeyed = timeout_at(deadline, self.pidfd.ended()).await;
        if let Ok(status) = obeyed {
            self.publish(ExecOutcome::TimedOut(status));
            sleep_until(deadline).await;
        }
        self.group.kill();
        if obeyed.is_err() {
            self.publish(ExecOutcome::TimedOut(self.pidfd.ended().await));
        }
    }

    fn classify(&self, status: ExitStatus) -> ExecOutcome {
        // A shell whose command was killed ends with 137 itself.
        let killed = status.shell_code() == KILLED;
        if killed && self.group.cgroup.as_ref().is_some_and(Cgroup::was_out_of_memory) {
            ExecOutcome::OutOfMemory(status)
        } else {
            ExecOutcome::Exited(status)
        }
    }

    fn publish(&self, outcome: ExecOutcome) {
        self.outcome.send_replace(Some(outcome));
    }
}

pub(super) const SIGTERM: u8 = 15;
const SIGKILL: u8 = 9;
