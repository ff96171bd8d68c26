//! `run -d`: returns when the VM is up, and prints its name.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::started::{Started, Unstarted};
use super::{Until, end};
use crate::cli::resolved::Context;
use crate::follow::{Follow, Step};
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
            reached = timeout_at(deadline, reach_running(&started, &mut progress)) => {
                match reached {
                    Ok(reached) => reached?,
                    Err(_) => return Err(started.too_slow(limit).await),
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

/// Waits until the VM is Running, or has been: a short program may have ended by the time it is looked at.
async fn reach_running(started: &Started<'_>, progress: &mut Progress) -> Result<(), Failure> {
    let mut follow = Follow::open(&started.vm).await?;
    loop {
        let view = follow.view();
        progress.show(&view);
        if view.timings.running.is_some() {
            return Ok(());
        }
        if view.state.is_final() || follow.next().await? == Step::Ended {
            let view = follow.view();
            progress.clear();
            if view.timings.running.is_some() {
                return Ok(());
            }
            end::exit_code(&view, !started.vm.spec().rm_on_exit)?;
            return Err(
                Failure::failed(format!("{} ended before it was running", view.name)).of_vm(&view.name)
            );
        }
    }
}
