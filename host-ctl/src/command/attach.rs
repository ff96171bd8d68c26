//! `attach [--from SEQ] [--no-stdin] NAME ID`

use std::process::ExitCode;

use clap::Args;
use firstlight_host_ctl::agent::session;
use firstlight_protocol::message::session::SessionAttachRequest;

use super::explain::session_failure;
use super::guest::{connect, running};
use super::session::{Attendance, Control, Manners, Terminal, is_terminal, window};
use crate::cli::resolved::Context;
use crate::interrupt::Interrupts;
use crate::output::Failure;

/// Read a session, and type to it
///
/// Prints what is kept of its output, then what comes, and exits with the command's code. Standard input goes to the
/// command if it takes any. On a terminal, Ctrl-P Ctrl-Q leaves the session running; so does ending host-ctl. The
/// first Ctrl-C is passed on, the second kills the session.
#[derive(Debug, Args)]
#[command(after_help = "Example: host-ctl attach web 3")]
pub(crate) struct Attach {
    /// A name, or the unique beginning of an id
    name: String,

    /// The session's number, as sessions shows it
    id: u64,

    /// Begin after this many bytes of output [default: with the oldest that are kept]
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,

    /// Only read
    #[arg(long)]
    no_stdin: bool,
}

impl Attach {
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let vm = running(context, &self.name, "attach").await?;
        let mut interrupts = Interrupts::listen()?;
        let request = SessionAttachRequest { id: self.id, from: self.from, take_over: false };
        let attached = session::attach(connect(&vm).await?, &request).await;
        let (attached, input, output) = attached.map_err(|error| session_failure(&error, &vm.spec().name))?;
        let input = (attached.takes_input && !self.no_stdin).then_some(input);
        let owns_terminal = attached.terminal && input.is_some() && is_terminal();
        let terminal = if owns_terminal { Some(Terminal::enter()?) } else { None };
        if terminal.is_some() {
            // The last who came sees the session as large as their own window.
            Control::new(&vm, self.id).resize(window()).await?;
        }
        let attendance =
            Attendance { vm: &vm, key: attached.key, output, input, terminal, manners: Manners::Visitor };
        attendance.run(&mut interrupts).await
    }
}
