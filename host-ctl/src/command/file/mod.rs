//! `file COMMAND`: looking at files of a running VM, and changing their names.

mod ls;
mod mkdir;
mod mv;
mod rm;
mod shown;
mod stat;

use clap::Subcommand;
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::cli::resolved::Context;
use crate::cli::value::location::{self, GuestPath};
use crate::output::Failure;

/// Look at files of a running VM, make directories, remove and rename
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct File {
    #[command(subcommand)]
    operation: Operation,
}

#[derive(Debug, Subcommand)]
enum Operation {
    Ls(ls::Ls),
    Stat(stat::Stat),
    Mkdir(mkdir::Mkdir),
    Rm(rm::Rm),
    Mv(mv::Mv),
}

impl File {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        match self.operation {
            Operation::Ls(ls) => ls.run(context).await,
            Operation::Stat(stat) => stat.run(context).await,
            Operation::Mkdir(mkdir) => mkdir.run(context).await,
            Operation::Rm(rm) => rm.run(context).await,
            Operation::Mv(mv) => mv.run(context).await,
        }
    }
}

/// Parses `NAME:/path`.
fn guest_path() -> impl TypedValueParser<Value = GuestPath> {
    OsStringValueParser::new().try_map(|text| location::parse_guest(&text))
}
