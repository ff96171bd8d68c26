//! `file mkdir [-p] [-m MODE] NAME:/path`

use clap::Args;
use firstlight_protocol::message::file::MakeDirRequest;

use super::guest_path;
use crate::cli::resolved::Context;
use crate::cli::value::location::GuestPath;
use crate::command::guest::{InRoot, Requests};
use crate::output::Failure;

/// Make a directory
#[derive(Debug, Args)]
pub(super) struct Mkdir {
    /// The directory
    #[arg(value_name = "NAME:PATH", value_parser = guest_path())]
    directory: GuestPath,

    /// Make the directories it is in too; one that exists is no error
    #[arg(short, long)]
    parents: bool,

    /// Its permissions in octal, such as 0700
    #[arg(short, long, default_value = "0755", value_parser = parse_mode)]
    mode: u32,

    #[command(flatten)]
    in_root: InRoot,
}

impl Mkdir {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let guest = Requests::to_name(context, &self.directory.vm, "file mkdir").await?;
        let place = self.in_root.place(self.directory.path);
        guest.ask(&MakeDirRequest { place, parents: self.parents, mode: self.mode }).await
    }
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| format!("{text:?} is no mode; write it in octal like 0755"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("1777"), Ok(0o1777));
        for text in ["rwx", "", "8", "17777", "-1"] {
            assert!(parse_mode(text).unwrap_err().contains("like 0755"), "{text}");
        }
    }
}
