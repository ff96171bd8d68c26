//! `start NAME...`

use clap::Args;
use firstlight_host_ctl::monitor::client;
use firstlight_host_ctl::operation::Operation;
use firstlight_host_ctl::vm::VmDir;

use super::explain::require;
use super::several::Targets;
use crate::cli::resolved::Context;
use crate::output::Failure;

/// Boot VMs that have ended once more, with what they were made of
///
/// Returns when the VMM runs; `host-ctl wait NAME --for running` waits for the program. A VM that runs is left alone.
#[derive(Debug, Args)]
pub(crate) struct Start {
    #[command(flatten)]
    targets: Targets,
}

impl Start {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        self.targets.each(context, |_, vm| async move { start(&vm).await }).await
    }
}

async fn start(vm: &VmDir) -> Result<(), Failure> {
    require(Operation::Start, &vm.view()?)?;
    Ok(client::start(vm).await?)
}
