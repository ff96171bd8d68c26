//! `run -d`: returns when the VM is up, and prints its name.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::started::Unstarted;
use super::{Until, end};
use crate::cli::resolved::Context;
use crate::interrupt::Interrupts;
use crate::output::{self, Failure, Format};
use crate::progress::Progress;

/// The exit code of a command that Ctrl-C ended: 128 plus SIGINT.
const INTERRUPTED: u8 = 128 + 2;

pub(in crate::command) async fn run(
    vm: Unstarted<'_>,
    until: Until,
    limit: Duration,
    mut interrupts: Interrupts,
    context: &Context,
) -> Result<ExitCode, Failure> {
    let deadline = Instant::now() + limit;
    let started = vm.start().await?;
    if until == Until::Running {
        let mut progress = Progress::start(context.progress, &started.vm.spec().name);
        tokio::select! {
            reached = timeout_at(deadline, started.reach_running(|view| progress.show(view))) => {
                let Ok(reached) = reached else { return Err(started.too_slow(limit).await) };
                progress.clear();
                let view = reached?;
                if view.timings.running.is_none() {
                    return Err(end::before_running(&view, !started.vm.spec().rm_on_exit));
                }
            }
            _ = interrupts.next() => {
                started.remove().await;
                return Err(Failure::exit(INTERRUPTED));
            }
        }
    }
    let spec = started.vm.spec();
    match context.format {
        Format::Text => output::line(&spec.name)?,
        Format::Json => {
            output::json_line(&serde_json::json!({ "version": 1, "name": spec.name, "id": spec.id }))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
