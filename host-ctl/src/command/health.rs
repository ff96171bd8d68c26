//! `health NAME [--check NAME=KIND:WHAT]... [--clear] [--wait]`

use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::agent::batch;
use firstlight_host_ctl::agent::batch::{millis, perform_one};
use firstlight_host_ctl::vm::Store;
use firstlight_protocol::message::batch::{Answer, Operation, Outcome};
use firstlight_protocol::message::health::{self, Check, CheckHealth, MIN_INTERVAL_MS, State};
use serde::Serialize;

use super::explain::agent_failure;
use super::guest::Requests;
use crate::cli::resolved::Context;
use crate::cli::value::duration;
use crate::cli::value::health_check::{self, HealthCheck};
use crate::output::{self, Code, Failure, Format, Table, text};

/// How long the agent may take to say what it knows already.
const LIMIT: Duration = Duration::from_secs(10);

/// Set or show a VM's health checks
///
/// The guest's agent runs the checks, whether or not anybody looks. Health is apart from the VM's state: an unhealthy VM
/// is still running. Exits with 1 when it is unhealthy.
#[derive(Debug, Args)]
pub(crate) struct Health {
    /// A name, or the unique beginning of an id
    name: String,

    /// Check this from now on, in place of the checks before: NAME=exec:CMD, NAME=tcp:PORT or NAME=http:PORT/PATH;
    /// may be repeated
    #[arg(long = "check", value_name = "NAME=KIND:WHAT", value_parser = health_check::parse)]
    checks: Vec<HealthCheck>,

    /// Check nothing any more
    #[arg(long, conflicts_with = "checks")]
    clear: bool,

    /// Between the end of a check and its next beginning
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = pace)]
    interval: Duration,

    /// After this long a check has failed
    #[arg(long, value_name = "DURATION", default_value = "3s", value_parser = pace)]
    timeout: Duration,

    /// Failures in a row that make it unhealthy
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    failures: u16,

    /// Successes in a row that make it healthy
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    successes: u16,

    /// For this long failures do not count, unless it has succeeded once
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    start_period: Duration,

    /// Wait until each check is decided, at most this long
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    wait: Option<Duration>,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    version: u32,
    name: &'a str,
    #[serde(flatten)]
    health: &'a health::Health,
}

impl Health {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let vm = Store::open(&context.state_dir)?.resolve(&self.name)?;
        let name = vm.spec().name.clone();
        let requests = Requests::to(context, &vm, "health").await?;
        if self.clear || !self.checks.is_empty() {
            ask(&requests, Operation::SetHealth(self.settings()), LIMIT).await?;
        }
        let decided = self.wait.is_some();
        let health = ask(&requests, Operation::Health { decided }, self.wait.unwrap_or(LIMIT)).await?;
        match context.format {
            Format::Json => output::json_line(&Report { version: 1, name: &name, health: &health })?,
            Format::Text => output::text(&render(&health))?,
        }
        if health.state == State::Unhealthy { Err(Failure::exit(1)) } else { Ok(()) }
    }

    fn settings(&self) -> Vec<Check> {
        let check = |check: &HealthCheck| Check {
            name: check.name.clone(),
            probe: check.probe.clone(),
            interval_ms: millis(self.interval),
            timeout_ms: millis(self.timeout),
            failures: self.failures,
            successes: self.successes,
            grace_ms: millis(self.start_period),
        };
        self.checks.iter().map(check).collect()
    }
}

/// An interval or a timeout that the agent agrees to.
fn pace(text: &str) -> Result<Duration, String> {
    let pace = duration::parse(text)?;
    if pace < Duration::from_millis(MIN_INTERVAL_MS.into()) {
        return Err(format!(
            "{MIN_INTERVAL_MS}ms at least: a check is to observe the guest and not to load it"
        ));
    }
    Ok(pace)
}

async fn ask(requests: &Requests, operation: Operation, limit: Duration) -> Result<health::Health, Failure> {
    let vm = requests.name();
    let outcome = perform_one(requests.agent(), operation, limit).await;
    let outcome = outcome.map_err(|error| agent_failure(&error, vm))?;
    match outcome {
        Outcome::Done(Answer::Health(health)) => Ok(health),
        Outcome::TimedOut(_) => {
            let text = format!("the health of {vm} was not decided within {}", duration::show(limit));
            Err(Failure::new(Code::TimedOut, text)
                .of_vm(vm)
                .hint(format!("see so far: host-ctl health {vm}")))
        }
        other @ (Outcome::Done(_) | Outcome::Error(_) | Outcome::Skipped(_)) => {
            Err(Failure::failed(batch::report::summary(&other)).of_vm(vm))
        }
    }
}

fn render(health: &health::Health) -> String {
    if health.checks.is_empty() {
        return "no health checks; set one with --check web=http:8080/\n".into();
    }
    let mut table = Table::new(&["CHECK", "STATE", "RUNS", "FAILURES", "LAST"]);
    for CheckHealth { name, state, runs, failures, last } in &health.checks {
        let found = last.as_ref().map(|last| last.detail.as_str()).unwrap_or_default();
        table.row(vec![
            text::printable(name),
            state.name().into(),
            runs.to_string(),
            failures.to_string(),
            text::printable(found),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_a_row_with_what_it_found_last() {
        let check = |name: &str, state, failures| CheckHealth {
            name: name.into(),
            state,
            runs: 7,
            failures,
            last: Some(health::Finding {
                ok: failures == 0,
                at_ns: 0,
                elapsed_us: 0,
                detail: "HTTP/1.0 503".into(),
            }),
        };
        let checks = vec![
            check("web", State::Unhealthy, 4),
            CheckHealth { last: None, ..check("db", State::Starting, 0) },
        ];
        insta::assert_snapshot!(render(&health::Health { state: State::Unhealthy, checks }), @r"
        CHECK   STATE       RUNS   FAILURES   LAST
        web     unhealthy   7      4          HTTP/1.0 503
        db      starting    7      0
        ");
    }
}
