//! `image inspect IMAGE`

use std::path::PathBuf;

use clap::Args;
use firstlight_host_ctl::image::survey::survey;

use crate::cli::resolved::Context;
use crate::output::{self, Failure, Format};

/// Show what an image carries: its system, init, kernels, headers, and what it was baked with
///
/// Always JSON; with --json it is the same on one line.
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// A root directory, or an ext4 image
    #[arg(value_name = "IMAGE|DIR")]
    image: PathBuf,
}

impl Inspect {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let survey = survey(&self.image)?;
        match context.format {
            Format::Text => output::json(&survey),
            Format::Json => output::json_line(&survey),
        }
    }
}
