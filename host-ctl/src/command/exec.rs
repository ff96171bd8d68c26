//! `exec [-i] [-e] [-w] [-u] [--timeout] NAME -- CMD ARG...`

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::agent::exec::{self, Event, Input, Output};
use firstlight_protocol::message::error::{AgentError, Cause};
use firstlight_protocol::message::exec::{ExecOutcome, ExecRequest, MAX_CHUNK};
use nix::errno::Errno;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;

use super::explain::agent_failure;
use super::guest::Guest;
use crate::cli::resolved::Context;
use crate::cli::value::duration;
use crate::cli::value::environment::{self, Variable};
use crate::interrupt::{Interrupt, Interrupts};
use crate::output::{self, Code, Failure, Stream};

/// Between the SIGTERM of a command that took too long and its SIGKILL.
const KILL_AFTER: Duration = Duration::from_secs(5);

/// Signals on their way to the command; a person does not type faster.
const SIGNALS: usize = 8;

const SIGKILL: u8 = 9;

/// Run a command in a running VM
///
/// Exits with the command's own code, or 128 plus its signal.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// A name, or the unique beginning of an id
    name: String,

    /// Send standard input to the command
    #[arg(short, long)]
    interactive: bool,

    /// Set a variable, or pass yours on: NAME=value or NAME; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = environment::parse)]
    env: Vec<Variable>,

    /// The command's working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,

    /// Run as this user: user, uid, user:group or uid:gid
    #[arg(short, long)]
    user: Option<String>,

    /// End the command and all it started after this long; exits with 124
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    timeout: Option<Duration>,

    /// The command and its arguments; no shell is involved
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    argv: Vec<String>,
}

impl Exec {
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let Guest { name, connection } = Guest::reach(context, &self.name).await?;
        let mut interrupts = Interrupts::listen()?;
        let started = exec::start(connection, &self.request()).await;
        let (input, output) = started.map_err(|error| agent_failure(&error, &name))?;
        let (signals, receiver) = mpsc::channel(SIGNALS);
        let feeder = tokio::spawn(feed(input, receiver, self.interactive));
        let outcome = relay(output, &mut interrupts, &signals).await.map_err(|error| match error {
            Relay::Agent(error) => agent_failure(&error, &name),
            Relay::Output(failure) => failure,
        });
        feeder.abort();
        self.conclude(outcome?)
    }

    fn request(&self) -> ExecRequest {
        let own = |name: &str| std::env::var(name).ok();
        let env = environment::resolve(&self.env, own).into_iter();
        ExecRequest {
            argv: self.argv.iter().map(|argument| argument.clone().into_bytes()).collect(),
            env: env.map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect(),
            cwd: self.workdir.clone().map(String::into_bytes),
            user: self.user.clone(),
            stdin: self.interactive,
            timeout_ms: self.timeout.map(millis),
            kill_after_ms: millis(KILL_AFTER),
        }
    }

    fn conclude(&self, outcome: ExecOutcome) -> Result<ExitCode, Failure> {
        match outcome {
            ExecOutcome::Exited(status) => Ok(ExitCode::from(status.shell_code())),
            ExecOutcome::TimedOut(_) => {
                let limit = self.timeout.map(duration::show).unwrap_or_default();
                let text = format!("the command was ended because it took over {limit}");
                Err(Failure::new(Code::TimedOut, text).of_vm(&self.name))
            }
            ExecOutcome::OutOfMemory(status) => {
                output::note("the guest ran out of memory, and its kernel ended the command");
                Ok(ExitCode::from(status.shell_code()))
            }
            ExecOutcome::SpawnFailed(error) => {
                Err(Failure::new(spawn_code(&error), error.to_string()).of_vm(&self.name))
            }
        }
    }
}

enum Relay {
    Agent(firstlight_host_ctl::agent::Error),
    Output(Failure),
}

/// Writes what the command writes, until it ends. The first Ctrl-C is passed on, the second kills the command.
async fn relay(
    mut output: Output,
    interrupts: &mut Interrupts,
    signals: &mpsc::Sender<u8>,
) -> Result<ExecOutcome, Relay> {
    let (mut stdout, mut stderr) = (Stream::stdout(), Stream::stderr());
    loop {
        let event = tokio::select! {
            event = output.next() => event.map_err(Relay::Agent)?,
            interrupt = interrupts.next() => {
                let number = match interrupt {
                    Interrupt::First(number) => number,
                    Interrupt::Again => SIGKILL,
                };
                // A full queue means that the command takes no signals; more would not help.
                let _ = signals.try_send(number);
                continue;
            }
        };
        match event {
            Event::Started(_) => {}
            Event::Stdout(bytes) => stdout.write(&bytes).await.map_err(Relay::Output)?,
            Event::Stderr(bytes) => stderr.write(&bytes).await.map_err(Relay::Output)?,
            Event::Ended(outcome) => return Ok(outcome),
        }
    }
}

/// Passes standard input and signals on. An error here means that the command or the connection is gone, which
/// the other direction says better.
async fn feed(mut input: Input, mut signals: mpsc::Receiver<u8>, interactive: bool) {
    let mut stdin = interactive.then(tokio::io::stdin);
    let mut buffer = vec![0; MAX_CHUNK];
    loop {
        let sent = tokio::select! {
            signal = signals.recv() => match signal {
                Some(number) => input.signal(number).await,
                None => return,
            },
            read = read(&mut stdin, &mut buffer) => match read {
                Ok(0) | Err(_) => {
                    stdin = None;
                    input.end_stdin().await
                }
                Ok(count) => input.stdin(&buffer[..count]).await,
            },
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Reads standard input, or waits for ever where there is none (any more).
async fn read(stdin: &mut Option<tokio::io::Stdin>, buffer: &mut [u8]) -> std::io::Result<usize> {
    match stdin {
        Some(stdin) => stdin.read(buffer).await,
        None => std::future::pending().await,
    }
}

/// 127 for what is not there and 126 for what is but cannot be invoked, as shells have it.
fn spawn_code(error: &AgentError) -> Code {
    match error.cause {
        Cause::Errno(errno) => invocation_code(errno),
        Cause::Invalid(_) | Cause::Busy(_) | Cause::Protocol(_) => Code::Failed,
    }
}

/// The code for the errno of an `execve(2)`.
pub(super) fn invocation_code(errno: i32) -> Code {
    if Errno::from_raw(errno) == Errno::ENOENT { Code::NotFound } else { Code::CannotInvoke }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
