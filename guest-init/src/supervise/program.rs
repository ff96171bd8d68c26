//! The program's process, from its fork to its end.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use firstlight_protocol::boot_spec::Program;
use firstlight_protocol::sentinel::ExitStatus;
use nix::errno::Errno;
use nix::unistd::Pid;

use crate::driver::Turn;
use crate::error::Fault;
use crate::stage::cgroup::Cgroup;
use crate::stage::program::{explain, start};
use crate::sys::{Child, kill, set_nice, thread_id};
use crate::wait::Deadline;

/// How long `execve` may take: it reads the first page of a file.
const EXEC_TIMEOUT: Duration = Duration::from_secs(30);

/// The supervisor's niceness from the program's fork until it has told that the program began. Woken by the `execve`, it waits
/// for the program, and when it has the processor because the program waits for its first page, it gives it back with that;
/// of a processor that the program does not let go of it still has a tenth. Source: `sched(7)`.
const BEHIND_PROGRAM: i32 = 10;

/// The program.
#[derive(Debug)]
pub(super) struct Keeper {
    cgroup: Cgroup,
    pid: Pid,
    state: State,
    /// How it ended. A program may end before init has heard that its `execve` succeeded.
    ended: Option<ExitStatus>,
}

#[derive(Debug)]
enum State {
    Starting { child: Child, turn: Turn, deadline: Deadline },
    Running,
}

impl Keeper {
    /// Starts the program in its own cgroup.
    ///
    /// # Errors
    /// What can be told before the fork.
    pub(super) fn start(
        program: &Program,
        cgroup: Cgroup,
        stdio: [BorrowedFd<'_>; 3],
        turn: Turn,
    ) -> Result<Keeper, Fault> {
        let child = start(program, &cgroup, stdio)?;
        // Where it cannot be changed, the program begins some microseconds later.
        let _ = set_nice(thread_id(), BEHIND_PROGRAM);
        let pid = child.pid;
        let state = State::Starting { child, turn, deadline: Deadline::after(EXEC_TIMEOUT) };
        Ok(Keeper { cgroup, pid, state, ended: None })
    }

    /// What to wait for: the outcome of `execve`, while it is unknown.
    pub(super) fn pending(&self) -> Option<(BorrowedFd<'_>, Deadline)> {
        match &self.state {
            State::Starting { child, deadline, .. } => Some((child.outcome.as_fd(), *deadline)),
            State::Running => None,
        }
    }

    /// Learns the outcome of `execve`, which is there to be read. Gives the pid and the stage that is done.
    ///
    /// # Errors
    /// Why the program could not be executed, and the stage that failed.
    pub(super) fn learn_outcome(&mut self, program: &Program) -> Option<Result<(Pid, Turn), (Turn, Fault)>> {
        match std::mem::replace(&mut self.state, State::Running) {
            State::Starting { child, turn, .. } => Some(match child.outcome() {
                Ok(pid) => Ok((pid, turn)),
                Err((step, errno)) => Err((turn, explain(program, step, errno).into())),
            }),
            State::Running => None,
        }
    }

    /// Ends the time in which the supervisor goes behind the program. What is started afterwards is to go with the others.
    pub(super) fn stop_yielding() {
        let _ = set_nice(thread_id(), 0);
    }

    /// The failure of a start that takes too long.
    pub(super) fn overdue(&self) -> Option<(Turn, Fault)> {
        match &self.state {
            State::Starting { turn, deadline, .. } if deadline.passed() => {
                let error = "waited for execve to end".to_owned();
                Some((*turn, Fault { errno: Some(Errno::ETIMEDOUT), path: None, error }))
            }
            State::Starting { .. } | State::Running => None,
        }
    }

    /// Takes note of a reaped process.
    pub(super) fn reaped(&mut self, pid: Pid, status: ExitStatus) {
        if pid == self.pid {
            self.ended = Some(status);
        }
    }

    /// How the program ended, once it is known to have run.
    pub(super) fn exit(&self) -> Option<ExitStatus> {
        match self.state {
            State::Running => self.ended,
            State::Starting { .. } => None,
        }
    }

    /// Whether it runs, as far as init has heard.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running) && self.ended.is_none()
    }

    /// Whether the OOM killer ended a process of it.
    pub(super) fn had_oom_kill(&self) -> bool {
        self.cgroup.had_oom_kill()
    }

    /// Sends a signal to its process group. A program that has ended takes none.
    pub(super) fn signal(&self, number: i32) {
        if self.ended.is_none() {
            // ESRCH: it ends at this moment, and the reaper will hear of it.
            let _ = kill(-self.pid.as_raw(), number);
        }
    }

    /// Kills the program and everything it has started.
    pub(super) fn kill(&self) {
        if self.cgroup.kill().is_err() {
            self.signal(nix::libc::SIGKILL);
        }
    }
}
