//! What a VM's end means for whoever ran it.

use std::process::ExitCode;

use firstlight_host_ctl::vm::VmView;
use firstlight_protocol::lifecycle::State;
use firstlight_protocol::sentinel::Event;

use super::super::session::invocation_code;
use crate::output::text::printable;
use crate::output::{self, Code, Failure};

/// The exit code of a program that was killed: 128 plus SIGKILL.
const KILLED: u8 = 128 + 9;

/// The exit code of a program that was to end before it began: 128 plus SIGTERM.
const STOPPED: u8 = 128 + 15;

/// The stage in which init starts the program.
const PROGRAM_STAGE: &str = "program";

/// The exit code of a run whose VM has ended: the program's own wherever there is one.
pub(super) fn exit_code(view: &VmView, kept: bool) -> Result<ExitCode, Failure> {
    if let Some(code) = view.exit_code() {
        if view.oom {
            output::note("the guest ran out of memory, and its kernel ended a process of the program");
        }
        if let Some(failure) = &view.failure {
            output::note(format_args!("warning: {}: {}", failure.stage, printable(&failure.reason)));
        }
        return Ok(ExitCode::from(code));
    }
    match &view.state {
        State::Stopped if view.timings.program_start.is_some() => Ok(ExitCode::from(KILLED)),
        State::Stopped => Ok(ExitCode::from(STOPPED)),
        State::Failed { stage, reason } => Err(failure(view, stage, reason, kept)),
        State::Created
        | State::Initializing
        | State::Running
        | State::Paused
        | State::Stopping
        | State::Unknown => {
            Err(Failure::failed(format!("{} is {}, which no VM should end in", view.name, view.state.name())))
        }
    }
}

/// The failure of a VM that ended and never was Running.
pub(in crate::command) fn before_running(view: &VmView, kept: bool) -> Failure {
    match exit_code(view, kept) {
        Err(failure) => failure,
        Ok(_) => Failure::failed(format!("{} ended before it was running", view.name)).of_vm(&view.name),
    }
}

/// A boot that failed: the stage, the path and the errno, and where to look.
fn failure(view: &VmView, stage: &str, reason: &str, kept: bool) -> Failure {
    let name = &view.name;
    let invocation = view.events.iter().find_map(|event| {
        let Event::Fatal { stage, errno, .. } = &event.sentinel.event else { return None };
        errno.filter(|_| stage == PROGRAM_STAGE)
    });
    let reason = view.failure.as_ref().map_or(reason, |failure| &failure.reason);
    let message = format!("{name} failed in stage {stage}: {}", printable(reason));
    let hint = if kept {
        format!("its console: host-ctl logs --all {name}; then host-ctl rm {name}")
    } else {
        "run it again without --rm, then see its console: host-ctl logs --all NAME".to_owned()
    };
    Failure::new(invocation.map_or(Code::Failed, invocation_code), message).of_vm(name).hint(hint)
}
