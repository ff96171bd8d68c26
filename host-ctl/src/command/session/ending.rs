//! How a session ended: as an exit code, as a failure, as JSON.

use std::process::ExitCode;

use firstlight_host_ctl::agent;
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::exec::ExecOutcome;
use firstlight_protocol::sentinel::ExitStatus;
use nix::errno::Errno;
use serde::Serialize;

use crate::command::explain::agent_failure;
use crate::output::{self, Code, Failure};

/// What became of a session, for people's scripts.
#[derive(Debug, Serialize)]
pub(in crate::command) struct End {
    /// `exited`, `timed-out` or `out-of-memory`.
    how: &'static str,
    /// The code it exited with, if it did.
    code: Option<u8>,
    /// The signal that ended it, if one did.
    signal: Option<u8>,
    /// The code that `exec` exits with for it.
    exit_code: u8,
}

/// The code for a command that took longer than it may.
const TIMED_OUT: u8 = 124;

impl End {
    pub(in crate::command) fn of(outcome: &ExecOutcome) -> End {
        let (how, status) = match outcome {
            ExecOutcome::Exited(status) => ("exited", Some(*status)),
            ExecOutcome::TimedOut(status) => ("timed-out", Some(*status)),
            ExecOutcome::OutOfMemory(status) => ("out-of-memory", Some(*status)),
            ExecOutcome::SpawnFailed(_) => ("never-started", None),
        };
        let (code, signal) = match status {
            Some(ExitStatus::Code(code)) => (Some(code), None),
            Some(ExitStatus::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        End { how, code, signal, exit_code: exit_code(outcome) }
    }

    /// The code that `exec` exits with for it.
    pub(in crate::command) fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// For people: `exited 3`, `killed by signal 9`, `timed out`, `out of memory`.
    pub(in crate::command) fn text(&self) -> String {
        match (self.how, self.code, self.signal) {
            ("exited", Some(code), _) => format!("exited {code}"),
            ("exited", None, Some(signal)) => format!("ended by signal {signal}"),
            (how, _, _) => how.replace('-', " "),
        }
    }
}

/// The exit code of a session.
pub(in crate::command) fn exit_code(outcome: &ExecOutcome) -> u8 {
    match outcome {
        ExecOutcome::Exited(status) | ExecOutcome::OutOfMemory(status) => status.shell_code(),
        ExecOutcome::TimedOut(_) => TIMED_OUT,
        ExecOutcome::SpawnFailed(error) => Failure::new(spawn_code(error), "").exit_code(),
    }
}

/// What a session's end means for whoever waited for it.
pub(in crate::command) fn conclude(outcome: &ExecOutcome, vm: &str) -> Result<ExitCode, Failure> {
    match outcome {
        ExecOutcome::Exited(status) => Ok(ExitCode::from(status.shell_code())),
        ExecOutcome::TimedOut(_) => {
            Err(Failure::new(Code::TimedOut, "the command was ended because it took longer than it may")
                .of_vm(vm))
        }
        ExecOutcome::OutOfMemory(status) => {
            output::note("the guest ran out of memory, and its kernel ended the command");
            Ok(ExitCode::from(status.shell_code()))
        }
        ExecOutcome::SpawnFailed(error) => Err(never_started(error, vm)),
    }
}

/// A session that was asked for, or the failure of a command that could not be started.
pub(in crate::command) fn started<T>(result: Result<T, agent::Error>, vm: &str) -> Result<T, Failure> {
    result.map_err(|error| match &error {
        agent::Error::Agent(error) => never_started(error, vm),
        agent::Error::Unreachable { .. }
        | agent::Error::Refused(_)
        | agent::Error::Protocol(_)
        | agent::Error::Timeout(_)
        | agent::Error::Lost(_)
        | agent::Error::TooLarge(_)
        | agent::Error::Pool(_) => agent_failure(&error, vm),
    })
}

fn never_started(error: &AgentError, vm: &str) -> Failure {
    Failure::new(spawn_code(error), error.to_string()).of_vm(vm)
}

/// 127 for what is not there and 126 for what is but cannot be invoked, as shells have it.
fn spawn_code(error: &AgentError) -> Code {
    match error.cause {
        Cause::Errno(errno) => invocation_code(errno),
        Cause::Invalid(_) | Cause::Busy(_) | Cause::Protocol(_) => Code::Failed,
    }
}

/// The code for the errno of an `execve(2)`.
pub(in crate::command) fn invocation_code(errno: i32) -> Code {
    if Errno::from_raw(errno) == Errno::ENOENT { Code::NotFound } else { Code::CannotInvoke }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_told_apart() {
        let killed = ExitStatus::Signal(9);
        for (outcome, text, code) in [
            (ExecOutcome::Exited(ExitStatus::Code(3)), "exited 3", 3),
            (ExecOutcome::Exited(killed), "ended by signal 9", 137),
            (ExecOutcome::TimedOut(killed), "timed out", 124),
            (ExecOutcome::OutOfMemory(killed), "out of memory", 137),
        ] {
            let end = End::of(&outcome);
            assert_eq!((end.text().as_str(), end.exit_code()), (text, code));
        }
    }
}
