//! `file stat [-L] NAME:/path`

use clap::Args;
use firstlight_protocol::message::file::{FileStat, FileStatRequest};

use super::guest_path;
use super::shown::{Shown, mode, time};
use crate::cli::resolved::Context;
use crate::cli::value::location::GuestPath;
use crate::command::guest::{InRoot, Requests};
use crate::output::text::printable_path;
use crate::output::{self, Failure, Format};

/// Show what a file is
#[derive(Debug, Args)]
pub(super) struct Stat {
    /// The file
    #[arg(value_name = "NAME:PATH", value_parser = guest_path())]
    file: GuestPath,

    /// Show what it points to when it is a symbolic link
    #[arg(short = 'L', long)]
    follow_link: bool,

    #[command(flatten)]
    in_root: InRoot,
}

impl Stat {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let guest = Requests::to_name(context, &self.file.vm, "file stat").await?;
        let place = self.in_root.place(self.file.path.clone());
        let stat = guest.ask(&FileStatRequest { place, follow: self.follow_link }).await?;
        match context.format {
            Format::Json => {
                output::json_line(&Shown::new(&self.file.path, &stat.metadata, stat.target.as_deref()))
            }
            Format::Text => output::text(&render(&self.file.path, &stat)),
        }
    }
}

fn render(path: &[u8], FileStat { metadata, target }: &FileStat) -> String {
    let arrow = target.as_ref().map(|target| format!(" -> {}", printable_path(target))).unwrap_or_default();
    format!(
        "path      {path}{arrow}\nmode      {mode} ({bits:04o})\nowner     {uid}:{gid}\nsize      {size}\n\
         allocated {allocated}\nmodified  {modified}\nlinks     {links}\ninode     {inode}\n",
        path = printable_path(path),
        mode = mode(metadata),
        bits = metadata.mode,
        uid = metadata.uid,
        gid = metadata.gid,
        size = metadata.size,
        allocated = metadata.allocated,
        modified = time(metadata.modified),
        links = metadata.links,
        inode = metadata.inode,
    )
}

#[cfg(test)]
mod tests {
    use firstlight_protocol::message::file::{FileKind, Metadata, Timestamp};

    use super::*;

    #[test]
    fn people_read_a_line_for_each_thing() {
        let modified = Timestamp { seconds: 0, nanos: 0 };
        let metadata = Metadata {
            kind: FileKind::Symlink,
            mode: 0o777,
            uid: 0,
            gid: 0,
            size: 3,
            allocated: 0,
            modified,
            links: 1,
            inode: 12,
        };
        let stat = FileStat { metadata, target: Some(b"run\n".to_vec()) };
        insta::assert_snapshot!(render(b"/var/run", &stat), @r"
        path      /var/run -> run\n
        mode      lrwxrwxrwx (0777)
        owner     0:0
        size      3
        allocated 0
        modified  1970-01-01T00:00:00.000000000Z
        links     1
        inode     12
        ");
    }
}
