//! Health checks: run again and again by the agent, told on request.
//!
//! ```text
//!  Check ──► task ── run (probe) ──► Standing (thresholds) ──► board ──► Health
//! ```
//!
//! The checks are kept in a file beside the boot's sentinels, so that a restarted agent goes on with them.

mod file;
mod probe;
mod standing;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::health::{
    Check, Health, MAX_CHECKS, MAX_NAME, MIN_INTERVAL_MS, Probe, State,
};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::process::Processes;
use crate::{failure, journal};
use standing::Standing;

/// The checks of this guest.
#[derive(Debug)]
pub struct HealthChecks {
    processes: Arc<Processes>,
    file: PathBuf,
    board: Arc<watch::Sender<Vec<Standing>>>,
    tasks: Mutex<JoinSet<()>>,
}

impl HealthChecks {
    /// Goes on with the checks in `file`, where an agent before this one has left any. Must be called within a runtime.
    #[must_use]
    pub fn resume(processes: Arc<Processes>, file: PathBuf) -> HealthChecks {
        let (board, _) = watch::channel(Vec::new());
        let health = HealthChecks { processes, file, board: Arc::new(board), tasks: Mutex::default() };
        match file::load(&health.file) {
            Ok(checks) => health.start(checks),
            // The program must not suffer for want of checks, so the agent goes on without.
            Err(error) => journal::say(&format_args!("resume health checks: {error}")),
        }
        health
    }

    /// Runs these checks from now on, in place of those before.
    ///
    /// # Errors
    /// When a check contradicts itself, or cannot be kept; those before then go on.
    pub fn set(&self, checks: Vec<Check>) -> Result<Health, AgentError> {
        validate(&checks).map_err(|reason| failure::invalid("set health checks", reason))?;
        file::save(&self.file, &checks)?;
        self.start(checks);
        Ok(self.now())
    }

    /// Where each check stands.
    #[must_use]
    pub fn now(&self) -> Health {
        summary(&self.board.borrow())
    }

    /// The same, once each check has been decided. Comes at once when there is none.
    pub async fn decided(&self) -> Health {
        let mut board = self.board.subscribe();
        let decided =
            |standings: &Vec<Standing>| standings.iter().all(|standing| standing.state() != State::Starting);
        // Fails only when the board is gone, and it is ours.
        let _ = board.wait_for(decided).await;
        self.now()
    }

    fn start(&self, checks: Vec<Check>) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // The agent has one thread, so none of them is half-way through saying something.
        *tasks = JoinSet::new();
        self.board.send_replace(checks.iter().map(|check| Standing::new(&check.name)).collect());
        for (index, check) in checks.into_iter().enumerate() {
            tasks.spawn(repeat(Arc::clone(&self.processes), check, index, Arc::clone(&self.board)));
        }
    }
}

/// Runs one check for ever.
async fn repeat(
    processes: Arc<Processes>,
    check: Check,
    index: usize,
    board: Arc<watch::Sender<Vec<Standing>>>,
) {
    let grace_end = Instant::now() + ms(check.grace_ms);
    loop {
        let finding = probe::run(&processes, &check.probe, ms(check.timeout_ms)).await;
        let in_grace = Instant::now() < grace_end;
        board.send_modify(|board| {
            if let Some(standing) = board.get_mut(index) {
                standing.observe(finding, in_grace, &check);
            }
        });
        sleep(ms(check.interval_ms)).await;
    }
}

fn ms(ms: u32) -> Duration {
    Duration::from_millis(ms.into())
}

fn summary(standings: &[Standing]) -> Health {
    Health {
        state: State::of_all(standings.iter().map(Standing::state)),
        checks: standings.iter().map(Standing::describe).collect(),
    }
}

fn validate(checks: &[Check]) -> Result<(), String> {
    if checks.len() > MAX_CHECKS {
        return Err(format!("{} checks are over the limit of {MAX_CHECKS}", checks.len()));
    }
    for (index, check) in checks.iter().enumerate() {
        let name = &check.name;
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(format!("the name of a check has 1 to {MAX_NAME} bytes, and one has {}", name.len()));
        }
        if checks[..index].iter().any(|earlier| earlier.name == *name) {
            return Err(format!("there are two checks named {name:?}"));
        }
        if check.interval_ms < MIN_INTERVAL_MS || check.timeout_ms < MIN_INTERVAL_MS {
            return Err(format!("check {name:?}: interval and timeout are {MIN_INTERVAL_MS} ms at least"));
        }
        if check.failures == 0 || check.successes == 0 {
            return Err(format!("check {name:?}: a threshold of 0 is never reached"));
        }
        validate_probe(&check.probe).map_err(|reason| format!("check {name:?}: {reason}"))?;
    }
    Ok(())
}

fn validate_probe(probe: &Probe) -> Result<(), &'static str> {
    match probe {
        Probe::Exec(argv) if argv.first().is_none_or(Vec::is_empty) => Err("the command is empty"),
        Probe::Tcp(0) | Probe::Http { port: 0, .. } => Err("there is no port 0"),
        // Anything else could end the request line and begin a header.
        Probe::Http { path, .. }
            if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Err("an HTTP path begins with a slash and has no blanks")
        }
        Probe::Exec(_) | Probe::Tcp(_) | Probe::Http { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, probe: Probe) -> Check {
        Check {
            name: name.into(),
            probe,
            interval_ms: 1000,
            timeout_ms: 1000,
            failures: 3,
            successes: 1,
            grace_ms: 0,
        }
    }

    #[test]
    fn checks_that_contradict_themselves_are_refused_by_name() {
        let web = || check("web", Probe::Tcp(80));
        assert_eq!(validate(&[web(), check("other", Probe::Tcp(80))]), Ok(()));
        assert_eq!(validate(&[web(), web()]), Err("there are two checks named \"web\"".into()));
        for broken in [
            Check { interval_ms: 0, ..web() },
            Check { timeout_ms: 1, ..web() },
            Check { failures: 0, ..web() },
            Check { successes: 0, ..web() },
            check("web", Probe::Exec(vec![])),
            check("web", Probe::Tcp(0)),
            check("web", Probe::Http { port: 80, path: "/ HTTP/1.1\r\nEvil: 1".into() }),
            check("web", Probe::Http { port: 80, path: "index".into() }),
        ] {
            let reason = validate(&[broken]).unwrap_err();
            assert!(reason.starts_with("check \"web\": "), "{reason}");
        }
        let many: Vec<Check> = (0..=MAX_CHECKS).map(|n| check(&n.to_string(), Probe::Tcp(1))).collect();
        assert!(validate(&many).is_err());
        assert!(validate(&[check("", Probe::Tcp(1))]).is_err());
    }
}
