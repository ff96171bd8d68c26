//! `pool acquire POOL`

use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::pool::client::ask;
use firstlight_host_ctl::pool::place::PoolPlace;
use firstlight_host_ctl::pool::wire::{Answer, Request};

use super::{ANSWER_LIMIT, millis, unexpected};
use crate::cli::resolved::Context;
use crate::cli::value::duration;
use crate::output::{self, Failure, Format};

/// Take a VM for some time, and print its name
///
/// Callers are served in the order in which they came. The VM was proved clean and has just answered. Give it back with
/// pool release; keep it longer with pool renew. One that is not given back in time is taken back.
#[derive(Debug, Args)]
#[command(after_help = "Example: vm=$(host-ctl pool acquire web) && host-ctl exec $vm -- make test; \
                        host-ctl pool release web $vm")]
pub(crate) struct Acquire {
    /// The pool
    pool: String,

    /// How long to wait in line
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "30s")]
    timeout: Duration,

    /// How long the VM is kept unless it is renewed; the pool may cut it
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "10m")]
    ttl: Duration,
}

impl Acquire {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let place = PoolPlace::of(&context.state_dir, &self.pool)?;
        let request = Request::Acquire { wait_ms: millis(self.timeout), ttl_ms: millis(self.ttl) };
        let answer = ask(&place, &request, Some(self.timeout.saturating_add(ANSWER_LIMIT))).await?;
        let Answer::Granted { vm, lease, expires_in_ms } = answer else { return Err(unexpected(&self.pool)) };
        match context.format {
            Format::Text => output::line(vm),
            Format::Json => output::json_line(&serde_json::json!({
                "version": 1, "pool": self.pool, "vm": vm, "lease": lease, "expires_in_ms": expires_in_ms,
            })),
        }
    }
}
