//! `pool COMMAND`: VMs that are ready before anybody asks.

mod acquire;
mod drain;
mod explain;
mod gc;
pub(super) mod metrics;
mod release;
mod renew;
mod serve;
mod status;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use firstlight_host_ctl::pool::client::ask;
use firstlight_host_ctl::pool::place::PoolPlace;
use firstlight_host_ctl::pool::wire::{Answer, Request};

use crate::cli::resolved::Context;
use crate::output::Failure;

/// How long a pool may take to answer what needs no waiting. It writes to disk before it does.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Keep VMs ready, and hand them out one by one
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Pool {
    #[command(subcommand)]
    operation: Operation,
}

#[derive(Debug, Subcommand)]
enum Operation {
    Serve(Box<serve::Serve>),
    Acquire(acquire::Acquire),
    Release(release::Release),
    Renew(renew::Renew),
    Status(status::Status),
    Drain(drain::Drain),
    Gc(gc::Gc),
}

impl Pool {
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        match self.operation {
            Operation::Serve(serve) => serve.run(context).await?,
            Operation::Acquire(acquire) => acquire.run(context).await?,
            Operation::Release(release) => release.run(context).await?,
            Operation::Renew(renew) => renew.run(context).await?,
            Operation::Status(status) => status.run(context).await?,
            Operation::Drain(drain) => drain.run(context).await?,
            Operation::Gc(gc) => gc.run(context).await?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A VM of a pool, and the lease on it.
#[derive(Debug, Args)]
struct Held {
    /// The pool
    #[arg(value_name = "POOL")]
    pool: String,

    /// The VM, as acquire printed it
    #[arg(value_name = "VM")]
    vm: String,

    /// Only if this lease still holds, so that nobody else can lose the VM by it [default: whoever holds the VM]
    #[arg(long, value_name = "LEASE")]
    lease: Option<String>,
}

/// Asks the pool `name` for something that needs no waiting.
async fn ask_now(context: &Context, name: &str, request: &Request) -> Result<Answer, Failure> {
    let place = PoolPlace::of(&context.state_dir, name)?;
    Ok(ask(&place, request, Some(ANSWER_LIMIT)).await?)
}

/// An answer to another question than the one that was asked.
fn unexpected(name: &str) -> Failure {
    Failure::failed(format!("pool {name} gave an answer to another question; it is of another version"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
