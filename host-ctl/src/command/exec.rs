//! `exec [-i] [-t] [-d] [-e] [--env-file] [-w] [-u] [--timeout] NAME -- CMD ARG...`, and `exec --kill NAME ID`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::agent::session;
use firstlight_host_ctl::vm::VmDir;
use firstlight_protocol::message::exec::ExecRequest;
use firstlight_protocol::message::session::SessionStartRequest;
use serde::Serialize;

use super::guest::{connect, running};
use super::session::{Attendance, Control, Manners, Terminal, is_terminal, started, window};
use crate::cli::resolved::Context;
use crate::cli::value::environment::{self, Variable};
use crate::cli::value::{duration, signal};
use crate::interrupt::{Interrupt, Interrupts};
use crate::output::{self, Failure, Format};

/// Between the SIGTERM of a command that took too long and its SIGKILL.
const KILL_AFTER: Duration = Duration::from_secs(5);

const SIGKILL: u8 = 9;

/// The variable that says what kind of terminal there is, and its value where ours is unknown.
const TERM: (&str, &str) = ("TERM", "xterm");

/// Run a command in a running VM
///
/// Exits with the command's own code, or 128 plus its signal. The first Ctrl-C is passed on, the second kills the command
/// and all it started. A command whose host-ctl went away goes on: see sessions and attach.
#[derive(Debug, Args)]
#[command(after_help = "Examples: host-ctl exec web -- ls /\n          host-ctl exec --kill web 3")]
pub(crate) struct Exec {
    /// A name, or the unique beginning of an id
    name: String,

    /// Send standard input to the command
    #[arg(short, long)]
    interactive: bool,

    /// Run the command on a terminal, which is ours with -i
    #[arg(short, long)]
    tty: bool,

    /// Return once the command runs, and print its session's number
    #[arg(short, long)]
    detach: bool,

    #[command(flatten)]
    setting: Setting,

    /// End the command and all it started after this long; exits with 124
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,

    /// Kill a session and all it started; CMD is its number
    #[arg(long, conflicts_with_all = ["interactive", "tty", "detach", "timeout"])]
    kill: bool,

    /// With --kill, send this signal instead, by name or number
    #[arg(short, long, requires = "kill", value_parser = signal::parse)]
    signal: Option<u8>,

    /// The command and its arguments; no shell is involved
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    argv: Vec<String>,
}

/// Where, as whom and with which variables a command runs.
#[derive(Debug, Args)]
pub(super) struct Setting {
    /// Set a variable, or pass yours on: NAME=value or NAME; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = environment::parse)]
    env: Vec<Variable>,

    /// Read variables from a file, one a line; may be repeated
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// The command's working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,

    /// Run as this user: user, uid, user:group or uid:gid
    #[arg(short, long)]
    user: Option<String>,
}

/// What `-d --json` prints.
#[derive(Debug, Serialize)]
struct Detached<'a> {
    version: u32,
    vm: &'a str,
    session: u64,
    pid: u32,
}

impl Setting {
    /// The request for a command in this setting.
    pub(super) fn request(&self, argv: &[String], stdin: bool, tty: bool) -> Result<ExecRequest, Failure> {
        let mut variables = Vec::new();
        if tty {
            let own = std::env::var(TERM.0).unwrap_or_else(|_| TERM.1.to_owned());
            variables.push(Variable { name: TERM.0.to_owned(), value: Some(own) });
        }
        for file in &self.env_file {
            variables.extend(environment::read_file(file).map_err(Failure::usage)?);
        }
        variables.extend(self.env.iter().cloned());
        let env = environment::resolve(&variables, |name| std::env::var(name).ok()).into_iter();
        Ok(ExecRequest {
            argv: argv.iter().map(|argument| argument.clone().into_bytes()).collect(),
            env: env.map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect(),
            cwd: self.workdir.clone().map(String::into_bytes),
            user: self.user.clone(),
            stdin,
            timeout_ms: None,
            kill_after_ms: millis(KILL_AFTER),
        })
    }
}

impl Exec {
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        if self.interactive && self.tty && !self.detach && !is_terminal() {
            let failure = Failure::usage("-i with -t needs a terminal on standard input and output");
            return Err(failure.hint("leave -t out to pass on a file or a pipe"));
        }
        let command = self.setting.request(&self.argv, self.interactive, self.tty)?;
        let command = ExecRequest { timeout_ms: self.timeout.map(millis), ..command };
        let vm = running(context, &self.name, "exec").await?;
        if self.kill {
            return self.end_session(&vm).await;
        }
        let terminal = self.tty.then(window);
        let request = SessionStartRequest { command, terminal, detached: self.detach };
        if self.detach {
            return detach(&vm, &request, context).await;
        }
        attend(&vm, &request, self.interactive).await
    }

    async fn end_session(&self, vm: &VmDir) -> Result<ExitCode, Failure> {
        let [id] = self.argv.as_slice() else {
            return Err(Failure::usage("--kill takes the number of one session: exec --kill NAME ID"));
        };
        let id = id.parse().map_err(|_| {
            let hint = format!("see them with: host-ctl sessions {}", self.name);
            Failure::usage(format!("{id:?} is no number of a session")).hint(hint)
        })?;
        Control::new(vm, id).signal(self.signal.unwrap_or(SIGKILL)).await?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn detach(vm: &VmDir, request: &SessionStartRequest, context: &Context) -> Result<ExitCode, Failure> {
    let name = &vm.spec().name;
    let mut connection = connect(vm).await?;
    let running = started(session::start_detached(&mut connection, request).await, name)?;
    let session = running.key.id;
    match context.format {
        Format::Json => output::json_line(&Detached { version: 1, vm: name, session, pid: running.pid })?,
        Format::Text => output::line(session)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts a command and stays with it. On a terminal ours is the command's if it is interactive.
pub(super) async fn attend(
    vm: &VmDir,
    request: &SessionStartRequest,
    interactive: bool,
) -> Result<ExitCode, Failure> {
    let mut interrupts = Interrupts::listen()?;
    let connection = connect(vm).await?;
    let (running, input, output) = tokio::select! {
        running = session::start(connection, request) => started(running, &vm.spec().name)?,
        // It has not started, perhaps because a file system hangs: nothing is left behind but that.
        interrupt = interrupts.next() => return Err(unstarted(interrupt)),
    };
    let input = interactive.then_some(input);
    let owns_terminal = interactive && request.terminal.is_some();
    let terminal = if owns_terminal { Some(Terminal::enter()?) } else { None };
    let attendance = Attendance { vm, key: running.key, output, input, terminal, manners: Manners::Owner };
    attendance.run(&mut interrupts).await
}

fn unstarted(interrupt: Interrupt) -> Failure {
    let number = match interrupt {
        Interrupt::First(number) => number,
        Interrupt::Again => SIGKILL,
    };
    Failure::exit(128 + number)
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
