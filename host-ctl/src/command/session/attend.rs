//! Staying with a session: its output is ours, our input and our signals are its.

use std::process::ExitCode;
use std::time::Duration;

use firstlight_host_ctl::agent;
use firstlight_host_ctl::agent::session::{self, Event, Input, Output};
use firstlight_host_ctl::backoff::{Attempt, jitter, retry};
use firstlight_host_ctl::operation::Operation;
use firstlight_host_ctl::vm::VmDir;
use firstlight_protocol::message::exec::{ExecOutcome, MAX_CHUNK};
use firstlight_protocol::message::output::Stream as From;
use firstlight_protocol::message::session::{SessionAttachRequest, SessionKey};
use tokio::io::AsyncReadExt as _;
use tokio::time::Instant;

use super::control::Control;
use super::detach_keys::{DetachKeys, Typed};
use super::ending::conclude;
use super::terminal::Terminal;
use crate::command::explain::{agent_failure, require, session_failure};
use crate::command::guest::connect;
use crate::interrupt::{Interrupt, Interrupts, SIGHUP, SIGINT};
use crate::output::{self, Failure, Stream};

/// How long to try to come back to a session whose connection was lost. Its command waits for about as long.
const RETURN: Duration = Duration::from_secs(5);

const SIGKILL: u8 = 9;

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::command) enum Manners {
    /// Ours: we started it, and what ends us is for it too.
    Owner,
    /// Somebody's whom we visit: it goes on when we are ended.
    Visitor,
}

/// One session, and our streams with it.
pub(in crate::command) struct Attendance<'a> {
    pub(in crate::command) vm: &'a VmDir,
    pub(in crate::command) key: SessionKey,
    pub(in crate::command) output: Output,
    /// What our standard input goes to, if it goes anywhere.
    pub(in crate::command) input: Option<Input>,
    /// Our terminal, where the session has it.
    pub(in crate::command) terminal: Option<Terminal>,
    pub(in crate::command) manners: Manners,
}

/// Why we do not stay.
enum Leave {
    /// The session ended.
    Ended(ExecOutcome),
    /// Somebody typed the keys for it.
    Detached,
    /// This signal ended us.
    Signalled(u8),
}

impl Attendance<'_> {
    /// Stays until the session has ended, or until we have to leave it.
    pub(in crate::command) async fn run(self, interrupts: &mut Interrupts) -> Result<ExitCode, Failure> {
        let Attendance { vm, key, output, input, mut terminal, manners } = self;
        let mut reading = Reading { vm, key, output, is_typed_to: input.is_some() };
        let keys = terminal.as_ref().map(|_| DetachKeys::default());
        let leave = tokio::select! {
            ended = reading.run() => ended.map(Leave::Ended),
            () = feed(input, keys) => Ok(Leave::Detached),
            number = obey(Control::new(vm, key.id), interrupts, &mut terminal, manners) => {
                Ok(Leave::Signalled(number))
            }
        };
        // Whatever is said from here on is said on a terminal that is as it was.
        drop(terminal);
        let name = &vm.spec().name;
        match leave? {
            Leave::Ended(outcome) => conclude(&outcome, name),
            Leave::Signalled(number) => Err(Failure::exit(128 + number)),
            Leave::Detached => {
                output::note(format_args!("session {0} goes on: host-ctl attach {name} {0}", key.id));
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// The session's output on its way to ours.
struct Reading<'a> {
    vm: &'a VmDir,
    key: SessionKey,
    output: Output,
    is_typed_to: bool,
}

impl Reading<'_> {
    async fn run(&mut self) -> Result<ExecOutcome, Failure> {
        let (mut stdout, mut stderr) = (Stream::stdout(), Stream::stderr());
        loop {
            match self.output.next().await {
                Ok(Event::Output { stream: From::Stdout, bytes }) => stdout.write(&bytes).await?,
                Ok(Event::Output { stream: From::Stderr, bytes }) => stderr.write(&bytes).await?,
                Ok(Event::Dropped(bytes)) => {
                    output::note(format_args!(
                        "warning: {bytes} bytes of output were gone before they were read"
                    ));
                }
                Ok(Event::Ended(outcome)) => return Ok(outcome),
                Err(error) => self.come_back(&error).await?,
            }
        }
    }

    /// Goes on over a new connection where the lost one stopped. What was typed cannot be told from what was lost, so a session
    /// that takes our input is left to the person who types.
    async fn come_back(&mut self, error: &agent::Error) -> Result<(), Failure> {
        let (name, id) = (&self.vm.spec().name, self.key.id);
        let failure = agent_failure(error, name);
        if !matches!(error, agent::Error::Lost(_)) {
            return Err(failure);
        }
        if self.is_typed_to {
            return Err(failure.hint(format!("the command may go on: host-ctl attach {name} {id}")));
        }
        let from = Some(self.output.position());
        let request = SessionAttachRequest { id, from, take_over: true };
        let deadline = Instant::now() + RETURN;
        let (attached, _input, output) =
            retry(deadline, jitter, || attach_again(self.vm, &request)).await??;
        if attached.key != self.key {
            return Err(failure.hint("the agent was started anew, and its sessions are gone"));
        }
        self.output = output;
        Ok(())
    }
}

type Attached = (firstlight_protocol::message::session::SessionAttached, Input, Output);

async fn attach_again(
    vm: &VmDir,
    request: &SessionAttachRequest,
) -> Attempt<Result<Attached, Failure>, Failure> {
    // A VM that has ended since will not have the session again.
    let allowed = vm.view().map_err(Failure::from).and_then(|view| require(Operation::Exec, &view));
    if let Err(refusal) = allowed {
        return Attempt::Done(Err(refusal));
    }
    let connection = match connect(vm).await {
        Ok(connection) => connection,
        Err(failure) => return Attempt::NotYet(failure),
    };
    match session::attach(connection, request).await {
        Ok(attached) => Attempt::Done(Ok(attached)),
        Err(error @ agent::Error::Agent(_)) => Attempt::Done(Err(session_failure(&error, &vm.spec().name))),
        Err(error) => Attempt::NotYet(agent_failure(&error, &vm.spec().name)),
    }
}

/// Passes standard input on. Returns only when the detach keys were typed; that the command or the connection is gone is said
/// better by the other direction.
async fn feed(input: Option<Input>, keys: Option<DetachKeys>) {
    let Some(input) = input else { return std::future::pending().await };
    if !pass_on(input, keys).await {
        std::future::pending::<()>().await;
    }
}

/// Passes standard input on until its end. Whether the detach keys were what ended it.
async fn pass_on(mut input: Input, mut keys: Option<DetachKeys>) -> bool {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; MAX_CHUNK];
    loop {
        let count = stdin.read(&mut buffer).await.unwrap_or(0);
        let typed = match &mut keys {
            _ if count == 0 => {
                let _ = input.end().await;
                return false;
            }
            Some(keys) => keys.take(&buffer[..count]),
            None => Typed::Bytes(buffer[..count].to_vec()),
        };
        let (bytes, detaches) = match typed {
            Typed::Bytes(bytes) => (bytes, false),
            Typed::Detach(bytes) => (bytes, true),
        };
        if input.write(&bytes).await.is_err() {
            return false;
        }
        if detaches {
            return true;
        }
    }
}

/// Does what signals and the terminal's size ask for. Returns the signal that ends us.
async fn obey(
    mut control: Control<'_>,
    interrupts: &mut Interrupts,
    terminal: &mut Option<Terminal>,
    manners: Manners,
) -> u8 {
    loop {
        let said = tokio::select! {
            interrupt = interrupts.next() => match interrupt {
                Interrupt::First(number) if number == SIGINT => control.signal(number).await,
                // A visitor leaves the session as it is.
                Interrupt::First(number) if manners == Manners::Visitor => return number,
                Interrupt::First(number) if terminal.is_some() => {
                    // As when a connection of ssh breaks: the terminal hangs up. What ignores that goes on.
                    let _ = control.signal(SIGHUP).await;
                    return number;
                }
                Interrupt::First(number) => control.signal(number).await,
                Interrupt::Again => control.signal(SIGKILL).await,
            },
            window = resized(terminal) => control.resize(window).await,
        };
        if let Err(failure) = said {
            output::note(format_args!("warning: {}", failure.message()));
        }
    }
}

async fn resized(terminal: &mut Option<Terminal>) -> firstlight_protocol::message::session::Window {
    match terminal {
        Some(terminal) => terminal.resized().await,
        None => std::future::pending().await,
    }
}
