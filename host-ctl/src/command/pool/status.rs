//! `pool status POOL`

use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::pool::service::Report;
use firstlight_host_ctl::pool::vm_name;
use firstlight_host_ctl::pool::wire::{Answer, Request};

use super::{ask_now, unexpected};
use crate::cli::resolved::Context;
use crate::output::text::{age, elapsed, printable};
use crate::output::{self, Failure, Format, Table};

/// Show a pool: how many VMs are where, what fails, and each VM
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// The pool
    pool: String,
}

impl Status {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Answer::Status(report) = ask_now(context, &self.pool, &Request::Status).await? else {
            return Err(unexpected(&self.pool));
        };
        if context.quiet {
            let mut names = report.status.members.iter().map(|member| vm_name(&report.pool, member.vm));
            return names.try_for_each(output::line);
        }
        match context.format {
            Format::Json => output::json(&report),
            Format::Text => output::text(&text(&report)),
        }
    }
}

fn text(report: &Report) -> String {
    let status = &report.status;
    let phases: Vec<String> = status
        .phases
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    let vms = if phases.is_empty() { "no VM".to_owned() } else { phases.join(", ") };
    let drained = if status.draining { "; it is being drained" } else { "" };
    let (min, max, waiting) = (status.bounds.min, status.bounds.max, status.waiting);
    let mut text = format!("{vms}; {waiting} waiting; {min} kept ready, {max} at most{drained}\n");
    for trouble in &status.degraded {
        let reason = report.last_failures.get(&trouble.job).map(|reason| format!(": {}", printable(reason)));
        text.push_str(&format!(
            "degraded: {} failed {} times in a row, next try in {}{}\n",
            trouble.job.name(),
            trouble.failures,
            elapsed(trouble.retry_in),
            reason.unwrap_or_default()
        ));
    }
    if !status.members.is_empty() {
        text.push_str(&table(report).render());
    }
    text
}

fn table(report: &Report) -> Table {
    let mut table = Table::new(&["NAME", "PHASE", "MADE BY", "AGE", "USES", "LEASE", "EXPIRES"]);
    for member in &report.status.members {
        let name = vm_name(&report.pool, member.vm);
        let way = report.ways.vms.get(&name).map(|way| way.name().to_owned());
        table.row(vec![
            name,
            member.phase.clone(),
            way.unwrap_or_default(),
            age(member.age),
            member.uses.to_string(),
            member.lease.clone().unwrap_or_default(),
            member.expires_in_ms.map(|ms| age(Duration::from_millis(ms))).unwrap_or_default(),
        ]);
    }
    table
}
