//! `bench COMMAND`: measure your own VMs on your own host.

mod boot;
mod table;

use clap::{Args, Subcommand};

use crate::cli::resolved::Context;
use crate::output::Failure;

/// Measure VMs of your own
#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    measurement: Measurement,
}

#[derive(Debug, Subcommand)]
enum Measurement {
    Boot(Box<boot::BenchBoot>),
}

impl Bench {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self.measurement {
            Measurement::Boot(boot) => boot.run(context).await,
        }
    }
}
