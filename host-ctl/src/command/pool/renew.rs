//! `pool renew POOL VM`

use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::pool::wire::{Answer, Request};

use super::{Held, ask_now, millis, unexpected};
use crate::cli::resolved::Context;
use crate::cli::value::duration;
use crate::output::{self, Failure, Format};

/// Keep a VM for longer
#[derive(Debug, Args)]
pub(crate) struct Renew {
    #[command(flatten)]
    held: Held,

    /// How long from now on; the pool may cut it
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "10m")]
    ttl: Duration,
}

impl Renew {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let Held { pool, vm, lease } = self.held;
        let request = Request::Renew { vm: vm.clone(), lease, ttl_ms: millis(self.ttl) };
        let answer = ask_now(context, &pool, &request).await?;
        let Answer::Renewed { expires_in_ms } = answer else { return Err(unexpected(&pool)) };
        match context.format {
            Format::Text => Ok(()),
            Format::Json => output::json_line(&serde_json::json!({
                "version": 1, "pool": pool, "vm": vm, "expires_in_ms": expires_in_ms,
            })),
        }
    }
}
