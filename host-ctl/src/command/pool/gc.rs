//! `pool gc POOL`

use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::pool::PoolError;
use firstlight_host_ctl::pool::client::ask;
use firstlight_host_ctl::pool::place::PoolPlace;
use firstlight_host_ctl::pool::vms::LABEL;
use firstlight_host_ctl::pool::wire::{Answer, Request};
use firstlight_host_ctl::vm::Store;

use super::unexpected;
use crate::cli::resolved::Context;
use crate::command::rm::remove_by_force;
use crate::output::{self, Failure, Format};

/// How long a pool may take. It destroys VMs one after the other.
const SWEEP_LIMIT: Duration = Duration::from_mins(10);

/// Destroy what a pool has left behind, and print its names
///
/// While the pool is served: VMs that bear its label and that it does not know. Otherwise all its VMs, also those that
/// somebody holds, and its records: use it for a pool that is not to be served again.
#[derive(Debug, Args)]
pub(crate) struct Gc {
    /// The pool
    pool: String,
}

impl Gc {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let place = PoolPlace::of(&context.state_dir, &self.pool)?;
        let destroyed = match place.take() {
            Ok(lock) => {
                let destroyed = destroy_all(context, &self.pool).await?;
                place.remove(&lock)?;
                destroyed
            }
            Err(PoolError::Served { .. }) => match ask(&place, &Request::Sweep, Some(SWEEP_LIMIT)).await? {
                Answer::Swept { vms } => vms,
                Answer::Granted { .. }
                | Answer::Renewed { .. }
                | Answer::Done
                | Answer::Status(_)
                | Answer::Refused { .. } => return Err(unexpected(&self.pool)),
            },
            Err(error) => return Err(error.into()),
        };
        match context.format {
            Format::Text => destroyed.iter().try_for_each(output::line),
            Format::Json => output::json_line(&serde_json::json!({ "version": 1, "destroyed": destroyed })),
        }
    }
}

async fn destroy_all(context: &Context, pool: &str) -> Result<Vec<String>, Failure> {
    let store = Store::open(&context.state_dir)?;
    let mut destroyed = Vec::new();
    for vm in store.list()? {
        if vm.spec().labels.get(LABEL).is_some_and(|label| label == pool) {
            remove_by_force(&store, &vm).await?;
            destroyed.push(vm.spec().name.clone());
        }
    }
    Ok(destroyed)
}
