//! `shell [-e] [-w] [-u] NAME`

use std::process::ExitCode;

use clap::Args;
use firstlight_protocol::message::session::SessionStartRequest;

use super::exec::{Setting, attend};
use super::guest::running;
use super::session::{is_terminal, window};
use crate::cli::resolved::Context;
use crate::output::Failure;

/// A login shell: bash where there is one, as most people expect, else whatever `sh` is.
const LOGIN_SHELL: [&str; 3] =
    ["sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash -l; else exec sh -l; fi"];

/// Open a shell in a running VM
///
/// On a terminal, Ctrl-P Ctrl-Q leaves it running: see sessions and attach. Otherwise it reads commands from standard
/// input, as ssh does.
#[derive(Debug, Args)]
#[command(after_help = "Example: host-ctl shell web")]
pub(crate) struct Shell {
    /// A name, or the unique beginning of an id
    name: String,

    #[command(flatten)]
    setting: Setting,
}

impl Shell {
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let tty = is_terminal();
        let argv = LOGIN_SHELL.map(str::to_owned);
        let command = self.setting.request(&argv, true, tty)?;
        let vm = running(context, &self.name, "shell").await?;
        let request = SessionStartRequest { command, terminal: tty.then(window), detached: false };
        attend(&vm, &request, true).await
    }
}
