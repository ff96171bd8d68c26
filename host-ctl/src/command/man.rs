//! `man DIR`.

use std::path::PathBuf;

use clap::{Args, CommandFactory as _};

use crate::cli::Cli;
use crate::output::Failure;

/// Write the manual pages to a directory
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The directory, such as /usr/local/share/man/man1
    dir: PathBuf,
}

impl Man {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.dir)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), &self.dir))
            .map_err(|error| {
                Failure::failed(format!("cannot write manual pages to {}: {error}", self.dir.display()))
            })
    }
}
