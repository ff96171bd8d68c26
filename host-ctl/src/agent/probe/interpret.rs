//! What the outcome of a check's command says of the things it looks for.

use std::time::Duration;

use firstlight_protocol::message::batch::{self, Answer, Output, Ran};
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::sentinel::ExitStatus;
use nix::errno::Errno;

use super::builtin::{BuiltIn, NONE};
use super::version::version;
use super::{Check, Outcome, What};
use crate::agent::batch::report;

/// What a shell exits with when there is no such command.
const NOT_FOUND: u8 = 127;

/// One outcome for each thing that `check` looks for.
pub(super) fn interpret(check: &Check, outcome: &batch::Outcome, timeout: Duration) -> Vec<Outcome> {
    let all = |outcome: Outcome| check.finds().iter().map(|_| outcome.clone()).collect();
    match (outcome, &check.what) {
        (batch::Outcome::Done(Answer::Exec(ran)), What::BuiltIn(built_in)) => by_line(built_in, ran),
        (batch::Outcome::Done(Answer::Exec(ran)), What::Script(_)) => all(by_exit_code(ran)),
        (batch::Outcome::Error(error), What::BuiltIn(_)) if is_missing(error) => all(Outcome::Absent),
        (batch::Outcome::Error(error), What::Script(_)) if is_missing(error) => {
            all(unknown("the guest has no /bin/sh to run the check with"))
        }
        (batch::Outcome::TimedOut(_), _) => {
            all(unknown(format!("timed out after {} ms", timeout.as_millis())))
        }
        (batch::Outcome::Error(error), _) => all(unknown(error.to_string())),
        (batch::Outcome::Skipped(_), _) => all(unknown("there was no time to begin")),
        (batch::Outcome::Done(_), _) => all(unknown("the agent answered something else")),
    }
}

/// Whether there is no such program, which only the `execve` of it can say.
fn is_missing(error: &AgentError) -> bool {
    error.operation == "exec" && error.cause == Cause::Errno(Errno::ENOENT as i32)
}

/// A line that was printed counts whatever happened afterwards.
fn by_line(built_in: &BuiltIn, ran: &Ran) -> Vec<Outcome> {
    let text = String::from_utf8_lossy(&ran.output.stdout.bytes);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let outcome = |line: Option<&str>| match line {
        Some(NONE) => Outcome::Absent,
        Some(line) if ran.status == ExitStatus::Code(0) || version(line).is_some() => {
            Outcome::Present { version: version(line) }
        }
        Some(_) | None => unknown(ending(ran)),
    };
    built_in.finds.iter().map(|_| outcome(lines.next())).collect()
}

fn by_exit_code(ran: &Ran) -> Outcome {
    match ran.status {
        ExitStatus::Code(0) => Outcome::Present { version: version(&report::first_line(&ran.output)) },
        ExitStatus::Code(NOT_FOUND) => Outcome::Absent,
        ExitStatus::Code(_) | ExitStatus::Signal(_) => unknown(ending(ran)),
    }
}

/// How a command ended that did not say what it should.
fn ending(ran: &Ran) -> String {
    if ran.out_of_memory {
        return "the guest ran out of memory".into();
    }
    let how = match ran.status {
        ExitStatus::Code(0) => "it printed nothing".to_owned(),
        ExitStatus::Code(code) => format!("exit code {code}"),
        ExitStatus::Signal(signal) => format!("ended by signal {signal}"),
    };
    let said =
        report::first_line(&Output { stdout: ran.output.stderr.clone(), stderr: ran.output.stdout.clone() });
    if said.is_empty() { how } else { format!("{how}: {said}") }
}

fn unknown(cause: impl Into<String>) -> Outcome {
    Outcome::Unknown { cause: cause.into() }
}

#[cfg(test)]
mod tests {
    use firstlight_protocol::message::batch::{Captured, Skip};

    use super::*;

    fn ran(status: ExitStatus, stdout: &str, stderr: &str) -> batch::Outcome {
        let captured = |text: &str| Captured { bytes: text.into(), omitted: 0 };
        let output = Output { stdout: captured(stdout), stderr: captured(stderr) };
        batch::Outcome::Done(Answer::Exec(Ran { status, out_of_memory: false, output }))
    }

    fn code(code: u8, stdout: &str, stderr: &str) -> batch::Outcome {
        ran(ExitStatus::Code(code), stdout, stderr)
    }

    fn of(check: &str, outcome: &batch::Outcome) -> Vec<Outcome> {
        let check = Check::named(check).or_else(|_| check.parse()).unwrap();
        interpret(&check, outcome, Duration::from_millis(700))
    }

    fn failed(operation: &str, errno: Errno) -> batch::Outcome {
        let cause = Cause::Errno(errno as i32);
        batch::Outcome::Error(AgentError { operation: operation.into(), path: Some("node".into()), cause })
    }

    fn present(version: &str) -> Outcome {
        Outcome::Present { version: Some(version.into()) }
    }

    #[test]
    fn one_process_answers_for_python_and_for_pip() {
        assert_eq!(of("python", &code(0, "3.11.2\n23.0.1\n", "")), [present("3.11.2"), present("23.0.1")]);
        assert_eq!(of("python", &code(0, "3.11.2\n-\n", "")), [present("3.11.2"), Outcome::Absent]);
    }

    #[test]
    fn a_pip_that_breaks_hides_no_python() {
        let outcomes = of("python", &code(1, "3.11.2\n", "Traceback (most recent call last):\n"));
        assert_eq!(outcomes, [present("3.11.2"), unknown("exit code 1: Traceback (most recent call last):")]);
    }

    #[test]
    fn only_a_missing_program_is_absent() {
        assert_eq!(of("node", &failed("exec", Errno::ENOENT)), [Outcome::Absent]);
        assert_eq!(of("python", &failed("exec", Errno::ENOENT)), [Outcome::Absent, Outcome::Absent]);
        let others = [
            failed("exec", Errno::EACCES),
            failed("exec", Errno::ENOEXEC),
            failed("chdir", Errno::ENOENT),
            failed("spawn", Errno::EAGAIN),
            code(1, "", "broken"),
            code(0, "", ""),
            ran(ExitStatus::Signal(11), "", ""),
            batch::Outcome::TimedOut(None),
            batch::Outcome::Skipped(Skip::Deadline),
        ];
        for outcome in others {
            assert!(matches!(of("node", &outcome)[..], [Outcome::Unknown { .. }]), "{outcome:?}");
        }
        assert_eq!(of("node", &batch::Outcome::TimedOut(None)), [unknown("timed out after 700 ms")]);
    }

    #[test]
    fn a_check_of_one_s_own_goes_by_its_exit_code() {
        let own = "java=java -version";
        assert_eq!(of(own, &code(0, "", "openjdk version \"17.0.9\"")), [present("17.0.9")]);
        assert_eq!(of(own, &code(0, "", "")), [Outcome::Present { version: None }]);
        assert_eq!(of(own, &code(127, "", "sh: java: not found")), [Outcome::Absent]);
        assert_eq!(of(own, &code(2, "x", "no")), [unknown("exit code 2: no")]);
        let no_shell = unknown("the guest has no /bin/sh to run the check with");
        assert_eq!(of(own, &failed("exec", Errno::ENOENT)), [no_shell]);
    }
}
