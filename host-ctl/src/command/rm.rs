//! `rm [-f] NAME...`

use clap::Args;
use firstlight_host_ctl::monitor::client;
use firstlight_host_ctl::monitor::wire::Request;
use firstlight_host_ctl::operation::Operation;
use firstlight_host_ctl::vm::store::StoreError;
use firstlight_host_ctl::vm::{Store, VmDir};

use super::explain::require;
use super::several::Targets;
use super::stop::end;
use crate::cli::resolved::Context;
use crate::output::Failure;

/// Forget VMs that have ended, with all their files
#[derive(Debug, Args)]
pub(crate) struct Rm {
    #[command(flatten)]
    targets: Targets,

    /// End a VM that still runs by force first
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let force = self.force;
        let each = move |store: Store, vm: VmDir| async move {
            if force { remove_by_force(&store, &vm).await } else { remove(&store, &vm).await }
        };
        self.targets.each(context, each).await
    }
}

async fn remove(store: &Store, vm: &VmDir) -> Result<(), Failure> {
    client::ensure(vm).await?;
    require(Operation::Remove, &vm.view()?)?;
    Ok(store.remove_when_ended(vm).await?)
}

/// Ends the VM if it runs, then removes it.
pub(super) async fn remove_by_force(store: &Store, vm: &VmDir) -> Result<(), Failure> {
    end(vm, Operation::ForceRemove, &Request::Kill).await?;
    match store.remove_when_ended(vm).await {
        Ok(()) => Ok(()),
        // Somebody else removed it meanwhile, which is what was asked for.
        Err(StoreError::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
