//! `report EVENT`: how units say what becomes of the agent and of the headers.

use std::str::FromStr;

use firstlight_protocol::sentinel::{Event, ExitStatus};
use firstlight_protocol::units::{REPORT_AGENT_EXIT, REPORT_AGENT_READY, REPORT_HEADERS_END};
use nix::sys::signal::Signal;

use super::{record, settings};
use crate::error::Fault;
use crate::report::MAX_AGENT_EVENTS;
use crate::supervise::headers;

/// Says that the event named `what` happened.
pub(super) fn report(what: &str) -> Result<(), Fault> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let [result, code, status] = ["SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS"].map(variable);
    let choose = |log: &str| match what {
        REPORT_AGENT_READY => has_room(log).then_some(Event::AgentReady),
        REPORT_AGENT_EXIT => agent_exit(log, self::status(&result, &code, &status)),
        REPORT_HEADERS_END => Some(headers::outcome(&format!("{code} {status}"))),
        _ => None,
    };
    Ok(record::append(&settings()?, &choose)?)
}

fn agent_exit(log: &str, status: Option<ExitStatus>) -> Option<Event> {
    let restarts = u32::try_from(count(log, "AGENT-EXIT")).unwrap_or(u32::MAX).saturating_add(1);
    status.filter(|_| has_room(log)).map(|status| Event::AgentExit { status, restarts })
}

/// An agent that fails for ever does not fill the log, in either mode.
fn has_room(log: &str) -> bool {
    count(log, "AGENT-") < MAX_AGENT_EVENTS as usize
}

fn count(log: &str, name: &str) -> usize {
    let starts = |line: &&str| line.strip_prefix("FIRSTLIGHT-").is_some_and(|rest| rest.starts_with(name));
    log.lines().filter(starts).count()
}

/// How the agent ended, by the variables of `systemd.exec(5)`. `None` when it was stopped in order, and none will
/// follow.
fn status(result: &str, code: &str, status: &str) -> Option<ExitStatus> {
    match (result, code) {
        ("success", _) => None,
        (_, "exited") => status.parse().ok().map(ExitStatus::Code),
        _ => {
            let signal = Signal::from_str(&format!("SIG{status}")).ok()?;
            u8::try_from(signal as i32).ok().map(ExitStatus::Signal)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "FIRSTLIGHT-AGENT-READY boot=1 seq=1\nFIRSTLIGHT-AGENT-EXIT boot=1 seq=2\n";

    #[test]
    fn an_end_that_systemd_asked_for_is_no_event() {
        assert_eq!(status("success", "exited", "0"), None);
        assert_eq!(status("exit-code", "exited", "3"), Some(ExitStatus::Code(3)));
        assert_eq!(status("signal", "killed", "KILL"), Some(ExitStatus::Signal(9)));
    }

    #[test]
    fn restarts_are_counted_over_the_whole_boot() {
        let event = agent_exit(LOG, Some(ExitStatus::Code(1)));
        assert_eq!(event, Some(Event::AgentExit { status: ExitStatus::Code(1), restarts: 2 }));
    }

    #[test]
    fn an_agent_that_fails_for_ever_is_told_of_a_bounded_number_of_times() {
        let full = LOG.repeat(MAX_AGENT_EVENTS as usize / 2);
        assert!(!has_room(&full));
        assert_eq!(agent_exit(&full, Some(ExitStatus::Code(1))), None);
    }
}
