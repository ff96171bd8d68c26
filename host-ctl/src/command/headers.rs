//! `headers bundle --from PATH... [-o FILE]`

use std::path::PathBuf;

use clap::{Args, Subcommand};
use firstlight_host_ctl::headers::{self, HeadersError};
use firstlight_protocol::headers::Manifest;
use serde::Serialize;

use crate::cli::resolved::Context;
use crate::output::{self, Failure, Format};

/// Make bundles of kernel headers for run --headers
#[derive(Debug, Subcommand)]
pub(crate) enum Headers {
    Bundle(Bundle),
}

/// Make a bundle of one kernel's headers, and print its file
///
/// From Debian packages (linux-headers-RELEASE and those it depends on), a kernel's own build tree, or a root in which
/// such packages are installed. What only other architectures need is left out.
#[derive(Debug, Args)]
#[command(after_help = "Example: host-ctl headers bundle --from linux-headers-*.deb linux-kbuild-*.deb")]
pub(crate) struct Bundle {
    /// Packages and directories of one kernel
    #[arg(long, value_name = "PATH", num_args = 1.., required = true)]
    from: Vec<PathBuf>,

    /// Where to write it [default: headers-RELEASE.tar.gz]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Said<'a> {
    bundle: String,
    manifest: &'a Manifest,
}

impl Headers {
    pub(crate) fn run(&self, context: &Context) -> Result<(), Failure> {
        match self {
            Headers::Bundle(bundle) => bundle.run(context),
        }
    }
}

impl Bundle {
    fn run(&self, context: &Context) -> Result<(), Failure> {
        let made = headers::make(&self.from, self.output.as_deref())?;
        let bundle = made.path.display().to_string();
        match context.format {
            Format::Json => output::json_line(&Said { bundle, manifest: &made.manifest }),
            Format::Text => output::line(bundle),
        }
    }
}

impl From<HeadersError> for Failure {
    fn from(error: HeadersError) -> Failure {
        Failure::failed(error.to_string())
    }
}
