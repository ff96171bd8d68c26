//! `pause NAME...` and `resume NAME...`

use clap::Args;
use firstlight_host_ctl::monitor::client::Connection;
use firstlight_host_ctl::monitor::wire::Request;
use firstlight_host_ctl::operation::Operation;
use firstlight_host_ctl::vm::VmDir;
use firstlight_protocol::lifecycle::State;

use super::explain::require;
use super::several::Targets;
use crate::cli::resolved::Context;
use crate::follow::{Follow, Step};
use crate::output::Failure;

/// Hold running VMs still
#[derive(Debug, Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    targets: Targets,
}

/// Let paused VMs go on
///
/// Returns when they do; a VM that was restored with --paused is told who it is first.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    #[command(flatten)]
    targets: Targets,
}

impl Pause {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        self.targets.each(context, |_, vm| async move { bring(&vm, true).await }).await
    }
}

impl Resume {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        self.targets.each(context, |_, vm| async move { bring(&vm, false).await }).await
    }
}

/// Asks for it and waits until it is so, or the VM has ended on its own. A copy that moves for the first time is Initializing
/// until it knows who it is.
async fn bring(vm: &VmDir, paused: bool) -> Result<(), Failure> {
    let (operation, request) = match paused {
        true => (Operation::Pause, Request::Pause),
        false => (Operation::Resume, Request::Resume),
    };
    let mut connection = Connection::open(vm).await?;
    connection.subscribe().await?;
    require(operation, &connection.view())?;
    if is_paused(&connection.view().state) == paused {
        return Ok(());
    }
    connection.request(&request).await?;
    let mut follow = Follow::resume(vm, connection);
    loop {
        let state = follow.view().state;
        if is_paused(&state) == paused && state != State::Initializing {
            break;
        }
        if follow.next().await? == Step::Ended {
            return require(operation, &follow.view());
        }
    }
    Ok(())
}

fn is_paused(state: &State) -> bool {
    *state == State::Paused
}
