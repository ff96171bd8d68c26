//! `stop [-t TIMEOUT] NAME...`

use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::monitor::client::Connection;
use firstlight_host_ctl::monitor::wire::Request;
use firstlight_host_ctl::operation::Operation;
use firstlight_host_ctl::vm::VmDir;
use firstlight_host_ctl::vm::fold::Boot;

use super::explain::require;
use super::several::Targets;
use crate::cli::resolved::Context;
use crate::cli::value::duration;
use crate::follow::{Follow, Step};
use crate::output::Failure;

/// End VMs in order: the program first, then the file systems, then the VMM
#[derive(Debug, Args)]
pub(crate) struct Stop {
    #[command(flatten)]
    targets: Targets,

    /// How long the program has between its stop signal and SIGKILL [default: the VM's own]
    #[arg(short, long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,
}

impl Stop {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let grace = self.timeout;
        self.targets.each(context, move |_, vm| async move { stop(&vm, grace).await }).await
    }
}

/// Stops one VM and waits until its VMM is gone. The monitor holds every step to a deadline, so this ends.
pub(super) async fn stop(vm: &VmDir, grace: Option<Duration>) -> Result<(), Failure> {
    let grace_ms = grace.map(|grace| u32::try_from(grace.as_millis()).unwrap_or(u32::MAX));
    end(vm, Operation::Stop, &Request::Stop { grace_ms }).await
}

/// Asks for the end of one VM and waits for it. A VM that has ended is left alone.
pub(super) async fn end(vm: &VmDir, operation: Operation, request: &Request) -> Result<(), Failure> {
    let mut connection = Connection::open(vm).await?;
    connection.subscribe().await?;
    require(operation, &connection.view())?;
    if !connection.is_connected() {
        return Ok(());
    }
    if let Err(error) = connection.request(request).await {
        // It may have ended on its own while we asked.
        if vm.fold()?.boot().is_none_or(Boot::is_closed) {
            return Ok(());
        }
        return Err(error.into());
    }
    let mut follow = Follow::resume(vm, connection);
    while follow.next().await? != Step::Ended {}
    Ok(())
}
