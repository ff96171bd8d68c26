//! `file mv [-n] NAME:/old /new`

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use clap::Args;
use firstlight_protocol::message::file::RenameRequest;

use super::guest_path;
use crate::cli::resolved::Context;
use crate::cli::value::location::{self, GuestPath};
use crate::command::guest::{InRoot, Requests};
use crate::output::Failure;

/// Rename a file or directory, or move it into another directory of the same file system
#[derive(Debug, Args)]
pub(super) struct Mv {
    /// The file
    #[arg(value_name = "NAME:OLD", value_parser = guest_path())]
    from: GuestPath,

    /// Its new path in the same VM, or the directory it goes into
    #[arg(value_name = "NEW")]
    to: OsString,

    /// Keep a file that has the new path already, and fail
    #[arg(short = 'n', long)]
    no_clobber: bool,

    #[command(flatten)]
    in_root: InRoot,
}

impl Mv {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let to = match location::parse_guest(&self.to) {
            Ok(to) if to.vm == self.from.vm => to.path,
            Ok(_) => {
                return Err(
                    Failure::usage("OLD and NEW are in different VMs").hint("copy it with host-ctl cp")
                );
            }
            Err(_) => self.to.into_vec(),
        };
        let guest = Requests::to_name(context, &self.from.vm, "file mv").await?;
        let from = self.in_root.place(self.from.path);
        guest.ask(&RenameRequest { from, to, keep_existing: self.no_clobber }).await
    }
}
