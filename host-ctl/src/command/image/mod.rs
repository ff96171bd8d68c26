//! `image COMMAND`: images that boot by themselves.

mod bake;
mod inspect;

use clap::Subcommand;

use crate::cli::resolved::Context;
use crate::output::Failure;

/// Prepare images that boot by themselves, and look into images
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Image {
    #[command(subcommand)]
    operation: Operation,
}

#[derive(Debug, Subcommand)]
enum Operation {
    Bake(bake::Bake),
    Inspect(inspect::Inspect),
}

impl Image {
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        match self.operation {
            Operation::Bake(bake) => bake.run(context),
            Operation::Inspect(inspect) => inspect.run(context),
        }
    }
}
