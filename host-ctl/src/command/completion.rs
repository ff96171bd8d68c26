//! `completion SHELL`.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::output::{self, Failure};

/// Print a shell's completion script
#[derive(Debug, Args)]
#[command(after_help = "Example: host-ctl completion bash >/etc/bash_completion.d/host-ctl")]
pub(crate) struct Completion {
    /// The shell
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "host-ctl", &mut script);
        output::bytes(&script)
    }
}
