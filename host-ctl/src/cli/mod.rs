//! The command line: typed here by clap, resolved in [`resolved`], done in [`crate::command`].
//!
//! Help, man pages and completions come from these definitions alone.

pub(crate) mod resolved;
pub(crate) mod value;

use std::path::PathBuf;

use clap::{Args, Parser};

use crate::command::Command;

/// Run microVMs and tell the truth about them.
#[derive(Debug, Parser)]
#[command(name = "host-ctl", version, max_term_width = 110, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 fine; 1 failed; 2 usage; 3 no such VM; 4 wrong state or name taken; 5 agent or VMM \
                  unreachable; 124 timed out; 125 host-ctl itself failed in run or exec; 126 found but cannot be \
                  invoked; 127 not found in the guest; 128+n ended by signal n; otherwise the program's own."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where VMs are kept [default: firstlight in $XDG_STATE_HOME, or ~/.local/state/firstlight]
    #[arg(long, global = true, value_name = "DIR", env = "FIRSTLIGHT_STATE_DIR", hide_env_values = true)]
    pub(crate) state_dir: Option<PathBuf>,

    /// Print JSON; errors are JSON on stderr
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Print names only, and no progress
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,

    /// Say more on stderr, such as each event of a boot
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,

    /// Show no progress on stderr
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
