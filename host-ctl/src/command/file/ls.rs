//! `file ls [-l] NAME:/path`

use clap::Args;
use firstlight_protocol::message::file::{FileList, FileListRequest, Listed};

use super::guest_path;
use super::shown::{Shown, mode, time};
use crate::cli::resolved::Context;
use crate::cli::value::location::GuestPath;
use crate::command::guest::{InRoot, Requests};
use crate::output::text::printable_path;
use crate::output::{self, Failure, Format, Table};

/// List a directory
///
/// With --json, each name is an object on a line of its own.
#[derive(Debug, Args)]
pub(super) struct Ls {
    /// The directory
    #[arg(value_name = "NAME:PATH", value_parser = guest_path())]
    directory: GuestPath,

    /// Show what each name is
    #[arg(short, long)]
    long: bool,

    #[command(flatten)]
    in_root: InRoot,
}

impl Ls {
    /// Lists part after part: a directory may have more names than anyone wants to hold.
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let guest = Requests::to_name(context, &self.directory.vm, "file ls").await?;
        let mut request =
            FileListRequest { place: self.in_root.place(self.directory.path.clone()), after: None };
        loop {
            let FileList { entries, more } = guest.ask(&request).await?;
            self.show(&entries, context)?;
            match entries.last() {
                Some(last) if more => request.after = Some(last.name.clone()),
                Some(_) | None => return Ok(()),
            }
        }
    }

    fn show(&self, entries: &[Listed], context: &Context) -> Result<(), Failure> {
        let name = |entry: &Listed| printable_path(&entry.name);
        match context.format {
            Format::Json => entries
                .iter()
                .try_for_each(|entry| output::json_line(&Shown::new(&entry.name, &entry.metadata, None))),
            Format::Text if self.long && !entries.is_empty() => {
                let mut table = Table::new(&["MODE", "OWNER", "SIZE", "MODIFIED", "NAME"]);
                for entry in entries {
                    let metadata = &entry.metadata;
                    let owner = format!("{}:{}", metadata.uid, metadata.gid);
                    let (size, time) = (metadata.size.to_string(), time(metadata.modified));
                    table.row(vec![mode(metadata), owner, size, time, name(entry)]);
                }
                output::text(&table.render())
            }
            Format::Text => output::text(&entries.iter().map(|entry| name(entry) + "\n").collect::<String>()),
        }
    }
}
