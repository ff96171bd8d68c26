//! `run` in the foreground: the program's output is ours, our signals are its, and so is the exit code.

use std::process::ExitCode;
use std::time::Duration;

use firstlight_host_ctl::monitor::wire::Request;
use firstlight_host_ctl::vm::VmView;
use firstlight_protocol::lifecycle::State;
use firstlight_protocol::message::output::Stream as From;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::end;
use super::notify::Notify;
use super::started::{Started, Unstarted};
use crate::cli::resolved::Context;
use crate::command::events;
use crate::follow::{Follow, Step};
use crate::interrupt::{Interrupt, Interrupts, SIGINT};
use crate::output::{self, Failure, Stream};
use crate::program_output::{Part, ProgramOutput};
use crate::progress::Progress;

pub(super) async fn run(
    vm: Unstarted<'_>,
    limit: Duration,
    remove: bool,
    mut interrupts: Interrupts,
    context: &Context,
) -> Result<ExitCode, Failure> {
    let deadline = Instant::now() + limit;
    let mut teller = Teller::new(context);
    let started = vm.start().await?;
    let result = attend(&started, (deadline, limit), &mut interrupts, &mut teller).await;
    drop(teller);
    let result = result.and_then(|view| end::exit_code(&view, !remove));
    if remove {
        started.remove().await;
    }
    result
}

/// Stays with the VM until it has ended and all its program wrote is written out.
async fn attend(
    started: &Started<'_>,
    (deadline, limit): (Instant, Duration),
    interrupts: &mut Interrupts,
    teller: &mut Teller,
) -> Result<VmView, Failure> {
    let mut follow = Follow::open(&started.vm).await?;
    let (grown, growth) = watch::channel(Growth::Growing);
    let pump = pump(ProgramOutput::open(&started.vm), growth);
    tokio::pin!(pump);
    let mut written = None;
    let (mut program_wrote, mut held) = (false, None);
    loop {
        let view = follow.view();
        teller.show(&view);
        if view.state == State::Running
            && let Some(interrupt) = held.take()
        {
            obey(&mut follow, interrupt, teller).await;
        }
        if view.state.is_final() || view.timings.vmm_exited.is_some() {
            break;
        }
        tokio::select! {
            step = follow.next() => match step? {
                Step::Changed => grown.send_modify(|_| ()),
                Step::Output => {
                    program_wrote = true;
                    grown.send_modify(|_| ());
                }
                Step::Ended => break,
            },
            result = &mut pump, if written.is_none() => written = Some(abandon(&mut follow, result).await?),
            interrupt = interrupts.next() => match interrupt {
                // Output and events come on roads of their own. A program that has written runs: the word that it does
                // is about to come, and the interrupt is the program's.
                Interrupt::First(SIGINT) if program_wrote && view.state == State::Initializing => {
                    held = Some(interrupt);
                }
                Interrupt::First(_) | Interrupt::Again => obey(&mut follow, interrupt, teller).await,
            },
            () = sleep_until(deadline), if matches!(view.state, State::Created | State::Initializing) => {
                return Err(started.too_slow(limit).await);
            }
        }
    }
    teller.show(&follow.view());
    grown.send_replace(Growth::Finished);
    match written {
        None => pump.await?,
        Some(failure) => return Err(failure),
    }
    Ok(follow.view())
}

/// Whether the log may still grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Growth {
    Growing,
    Finished,
}

/// Writes out what the program writes, as fast as our reader takes it, until the log is finished.
async fn pump(mut output: ProgramOutput, mut growth: watch::Receiver<Growth>) -> Result<(), Failure> {
    let (mut stdout, mut stderr) = (Stream::stdout(), Stream::stderr());
    loop {
        let now = *growth.borrow_and_update();
        loop {
            let parts = output.next()?;
            if parts.is_empty() {
                break;
            }
            write(parts, &mut stdout, &mut stderr).await?;
        }
        if now == Growth::Finished || growth.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Writes parts in order; those of one stream that follow each other at once.
async fn write(parts: Vec<Part>, stdout: &mut Stream, stderr: &mut Stream) -> Result<(), Failure> {
    for run in parts.chunk_by(|a, b| a.stream == b.stream) {
        let bytes: Vec<u8> = run.iter().flat_map(|part| part.bytes.iter().copied()).collect();
        match run.first().map(|part| part.stream) {
            Some(From::Stdout) => stdout.write(&bytes).await?,
            Some(From::Stderr) => stderr.write(&bytes).await?,
            None => {}
        }
    }
    Ok(())
}

/// Nobody reads our output any more. A program would get SIGPIPE; the VM is ended.
async fn abandon(follow: &mut Follow, result: Result<(), Failure>) -> Result<Failure, Failure> {
    let failure = result.err().unwrap_or_else(|| Failure::exit(0));
    follow.connection().request(&Request::Kill).await?;
    Ok(failure)
}

/// Does what a signal asks for. A request that fails is no reason to leave: the VM may just have ended, which comes next.
async fn obey(follow: &mut Follow, interrupt: Interrupt, teller: &mut Teller) {
    let running = follow.view().state == State::Running;
    let request = match interrupt {
        Interrupt::First(SIGINT) if running => Request::Signal { number: SIGINT },
        Interrupt::First(_) => {
            teller.notify.stopping();
            Request::Stop { grace_ms: None }
        }
        Interrupt::Again => Request::Kill,
    };
    if let Err(error) = follow.connection().request(&request).await {
        output::note(format_args!("warning: {error}"));
    }
}

/// Tells everybody but stdout what happens.
struct Teller {
    /// Until the VM is Running: then stderr belongs to the program.
    progress: Option<Progress>,
    notify: Notify,
    verbose: bool,
    said: usize,
}

impl Teller {
    fn new(context: &Context) -> Teller {
        let progress = Some(Progress::start(context.progress, "starting"));
        Teller { progress, notify: Notify::default(), verbose: context.verbose, said: 0 }
    }

    fn show(&mut self, view: &VmView) {
        self.notify.show(view);
        if self.verbose {
            view.events.iter().skip(self.said).for_each(|event| output::note(events::text(event)));
            self.said = view.events.len();
        }
        if let Some(progress) = &mut self.progress {
            progress.show(view);
        }
        if view.timings.program_start.is_some() || view.state.is_final() {
            self.progress = None;
        }
    }
}
