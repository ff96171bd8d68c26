//! `file rm [-r] [-f] NAME:/path`

use clap::Args;
use firstlight_protocol::message::file::RemoveRequest;

use super::guest_path;
use crate::cli::resolved::Context;
use crate::cli::value::location::GuestPath;
use crate::command::guest::{InRoot, Requests};
use crate::output::Failure;

/// Remove a file or an empty directory
#[derive(Debug, Args)]
pub(super) struct Rm {
    /// The file; a symbolic link is removed itself
    #[arg(value_name = "NAME:PATH", value_parser = guest_path())]
    file: GuestPath,

    /// Remove a directory with all that is in it
    #[arg(short, long)]
    recursive: bool,

    /// One that does not exist is no error
    #[arg(short, long)]
    force: bool,

    #[command(flatten)]
    in_root: InRoot,
}

impl Rm {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let guest = Requests::to_name(context, &self.file.vm, "file rm").await?;
        let place = self.in_root.place(self.file.path);
        guest.ask(&RemoveRequest { place, recursive: self.recursive, ignore_missing: self.force }).await
    }
}
