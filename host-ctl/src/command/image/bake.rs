//! `image bake IMAGE`

use std::path::PathBuf;

use clap::Args;
use firstlight_host_ctl::assets::{Environment, guest_programs};
use firstlight_host_ctl::image::bake::bake;

use crate::cli::resolved::Context;
use crate::output::{self, Failure, Format};

/// Install the agent in an image, so that it boots by itself and still reports
///
/// The image keeps its own kernel and initrd; its systemd starts the agent early. Nothing changes in a boot without
/// host-ctl. Baking twice changes nothing at all.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: host-ctl image bake debian.ext4 && host-ctl run -d --mode baked --rootfs debian.ext4"
)]
pub(super) struct Bake {
    /// A root directory, or an ext4 image that nothing uses
    #[arg(value_name = "IMAGE|DIR")]
    image: PathBuf,
}

impl Bake {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let programs = guest_programs(&Environment::of_process())?;
        let baked = bake(&self.image, &programs.init, &programs.agent)?;
        match context.format {
            Format::Json => output::json_line(&serde_json::json!({ "version": 1, "written": baked.written })),
            Format::Text if baked.written.is_empty() => {
                output::note(format_args!("{} was baked already; nothing was changed", self.image.display()));
                Ok(())
            }
            Format::Text => baked.written.iter().try_for_each(output::line),
        }
    }
}
