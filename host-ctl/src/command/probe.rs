//! `probe NAME [CHECK...] [--check NAME=CMD]... [--timeout] [--wait]`

use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::agent::probe::{self, Check, Finding, Outcome};
use firstlight_host_ctl::vm::{Store, VmDir};
use serde::Serialize;
use tokio::time::timeout;

use super::explain::agent_failure;
use super::guest::Requests;
use super::wait::{Goal, reach};
use crate::cli::resolved::Context;
use crate::cli::value::condition::{Condition, Target};
use crate::cli::value::duration;
use crate::output::{self, Code, Failure, Format, Table, text};

/// Tell which tools are in a VM
///
/// Waits until the VM runs, then makes all checks at once. Each thing is present, absent or unknown; a VM that does not
/// answer has nothing absent. Exits with 0 when all are present.
#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// A name, or the unique beginning of an id
    name: String,

    /// Built-in checks: node, python (with pip), git, docker [default: all, unless there is a --check]
    #[arg(value_name = "CHECK")]
    checks: Vec<String>,

    /// Check something else with the guest's shell: present if CMD exits with 0, absent with 127; may be repeated
    #[arg(long = "check", value_name = "NAME=CMD", value_parser = str::parse::<Check>)]
    own: Vec<Check>,

    /// How long each check may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    timeout: Duration,

    /// How long to wait until the VM runs
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    wait: Duration,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    version: u32,
    name: &'a str,
    findings: &'a [Finding],
}

impl Probe {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let probe = self.probe().map_err(|error| Failure::usage(error.to_string()))?;
        let vm = Store::open(&context.state_dir)?.resolve(&self.name)?;
        let name = vm.spec().name.clone();
        let asked = async {
            let requests = self.pass_gate(context, &vm).await?;
            probe.run(requests.agent()).await.map_err(|error| agent_failure(&error, &name))
        };
        match asked.await {
            Ok(findings) => {
                show(context, &name, &findings)?;
                let all = findings.iter().all(|finding| matches!(finding.outcome, Outcome::Present { .. }));
                if all { Ok(()) } else { Err(Failure::exit(1)) }
            }
            // Nobody was asked, so nothing is absent; and the failure says why, with its own exit code.
            Err(failure) => {
                show(context, &name, &probe.unanswered(failure.message()))?;
                Err(failure)
            }
        }
    }

    fn probe(&self) -> Result<probe::Probe, probe::CheckError> {
        let mut checks =
            if self.checks.is_empty() && self.own.is_empty() { Check::built_in() } else { Vec::new() };
        for name in &self.checks {
            checks.push(Check::named(name)?);
        }
        checks.extend(self.own.iter().cloned());
        probe::Probe::new(checks, self.timeout)
    }

    /// Waits until the VM runs and its agent answers.
    async fn pass_gate(&self, context: &Context, vm: &VmDir) -> Result<Requests, Failure> {
        let running = Goal::new(&[Condition::State(Target::Running)], false);
        match timeout(self.wait, reach(vm, running)).await {
            Ok(reached) => reached?,
            Err(_) => {
                let text = format!("{} was not running within {}", vm.spec().name, duration::show(self.wait));
                return Err(Failure::new(Code::TimedOut, text).of_vm(&vm.spec().name));
            }
        };
        Requests::to(context, vm, "probe").await
    }
}

fn show(context: &Context, name: &str, findings: &[Finding]) -> Result<(), Failure> {
    match context.format {
        Format::Json => output::json_line(&Report { version: 1, name, findings }),
        Format::Text => output::text(&table(findings)),
    }
}

fn table(findings: &[Finding]) -> String {
    let mut table = Table::new(&["NAME", "OUTCOME", "VERSION", "CAUSE"]);
    for Finding { name, outcome, .. } in findings {
        let (word, version, cause) = match outcome {
            Outcome::Present { version } => ("present", version.as_deref().unwrap_or_default(), ""),
            Outcome::Absent => ("absent", "", ""),
            Outcome::Unknown { cause } => ("unknown", "", cause.as_str()),
        };
        table.row([name, word, version, cause].map(text::printable).into());
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_what_is_there_and_why_nobody_can_say() {
        let finding = |name: &str, outcome| Finding { name: name.into(), outcome, elapsed_ms: 1.0 };
        let findings = [
            finding("node", Outcome::Present { version: Some("20.1.0".into()) }),
            finding("git", Outcome::Absent),
            finding("own", Outcome::Unknown { cause: "exit code 1: \x1b[31mno".into() }),
        ];
        insta::assert_snapshot!(table(&findings), @r"
        NAME   OUTCOME   VERSION   CAUSE
        node   present   20.1.0
        git    absent
        own    unknown             exit code 1: \u{1b}[31mno
        ");
    }
}
