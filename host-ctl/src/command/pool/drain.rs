//! `pool drain POOL`

use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::pool::client::ask;
use firstlight_host_ctl::pool::place::PoolPlace;
use firstlight_host_ctl::pool::wire::Request;

use super::millis;
use crate::cli::resolved::Context;
use crate::cli::value::duration;
use crate::output::Failure;

/// End a pool: no VM is handed out any more, and each is destroyed once its holder has given it back
///
/// Returns when the last VM is gone; pool serve ends then too.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    /// The pool
    pool: String,

    /// Take VMs from their holders after this time [default: wait until the last lease ends]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    cut_after: Option<Duration>,
}

impl Drain {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let place = PoolPlace::of(&context.state_dir, &self.pool)?;
        let request = Request::Drain { cut_after_ms: self.cut_after.map(millis) };
        // Leases bound the wait.
        ask(&place, &request, None).await?;
        Ok(())
    }
}
