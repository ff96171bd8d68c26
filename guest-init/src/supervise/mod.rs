//! PID 1's only loop: from the start of the boot to the moment the teardown begins.
//!
//! It waits for signals, for the driver, for the host's commands, for the agent's readiness and for the outcome of the
//! program's `execve`, and does what each calls for. All processes are started and reaped here, on one thread, so
//! nobody else ever waits for a child.

mod agent;
pub(crate) mod headers;
mod program;
mod shell;
mod signals;
mod stop;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use firstlight_protocol::boot_spec::{Mode, RootSource};
use firstlight_protocol::init_command::InitCommand;
use firstlight_protocol::sentinel::{Event, ExitStatus};
use nix::fcntl::{OFlag, open};
use nix::sys::stat;
use nix::unistd::Pid;

use crate::driver::{Driver, Failure, Process, Turn};
use crate::error::{CallError, Fault};
use crate::report::Reporter;
use crate::stage::agent::{OutputEnds, prepare};
use crate::stage::cgroup::{Cgroup, Cgroups};
use crate::stage::program::make_cgroup;
use crate::stage::{Context, root};
use crate::wait::{Deadline, poll, readable};
use crate::{sys, systemd};
use agent::{News, Stdio};
use signals::{Request, Signals};
use stop::{Answer, Stop};

/// How long a boot goes before what is told of it. What takes longer waits for something, and that is worth telling.
const TELL_AFTER: Duration = Duration::from_secs(1);

/// How long processes that outlive the program have at most between SIGTERM and SIGKILL.
const MAX_LEFTOVER_GRACE: Duration = Duration::from_secs(2);

/// Why the loop ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The program ended; EXIT is said.
    ProgramEnded,
    /// A stop was asked for before the program ran.
    Stopped,
    /// The boot failed; FATAL is not said yet.
    Failed(Failure),
}

/// What the loop leaves to the teardown.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// The agent's process.
    pub(crate) agent: Option<Pid>,
    /// What processes that outlive the program have between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
}

/// PID 1 at work.
#[derive(Debug)]
pub(crate) struct Supervisor {
    context: Arc<Context>,
    reporter: Reporter,
    driver: Driver,
    signals: Signals,
    cgroups: Cgroups,
    /// Where the agent and the program are to be, until they are.
    agent_cgroup: Option<Cgroup>,
    program_cgroup: Option<Cgroup>,
    /// The agent's executable, until it is started.
    agent_executable: Option<OwnedFd>,
    agent: Option<agent::Keeper>,
    /// The program's ends of the output pipes, until it is started.
    output: Option<OutputEnds>,
    program: Option<program::Keeper>,
    headers: Option<headers::Keeper>,
    stop: Stop,
    /// When what has happened so far is to be told.
    tell_due: Deadline,
    /// For the program when there is no agent, and for the agent's own messages.
    console: File,
    null: OwnedFd,
}

/// What a supervisor has open. It is opened before the driver starts: while a stage switches the root, there is an
/// instant in which `/dev` is in neither.
pub(crate) struct Descriptors {
    signals: Signals,
    cgroups: Cgroups,
    console: File,
    null: OwnedFd,
}

impl Descriptors {
    /// Opens them, beside the console.
    ///
    /// # Errors
    /// [`CallError`] of a descriptor that cannot be made.
    pub(crate) fn open(console: File) -> Result<Descriptors, CallError> {
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, stat::Mode::empty());
        Ok(Descriptors {
            signals: Signals::open().map_err(CallError::of("signalfd"))?,
            cgroups: Cgroups::open()?,
            console,
            null: null.map_err(CallError::on("open", "/dev/null"))?,
        })
    }
}

impl Supervisor {
    /// Gets ready to supervise what `driver` runs. `agent_executable` is there when the spec has an agent.
    pub(crate) fn new(
        context: Arc<Context>,
        reporter: Reporter,
        driver: Driver,
        descriptors: Descriptors,
        agent_executable: Option<OwnedFd>,
    ) -> Supervisor {
        let Descriptors { signals, cgroups, console, null } = descriptors;
        Supervisor {
            signals,
            cgroups,
            agent_cgroup: None,
            program_cgroup: None,
            console,
            null,
            context,
            reporter,
            driver,
            agent_executable,
            agent: None,
            output: None,
            program: None,
            headers: None,
            stop: Stop::default(),
            tell_due: Deadline::after(TELL_AFTER),
        }
    }

    /// Supervises until there is nothing left to supervise.
    pub(crate) fn run(&mut self) -> Ending {
        let ending = loop {
            match self.turn() {
                Ok(None) => {}
                Ok(Some(ending)) => break ending,
                Err(failure) => break Ending::Failed(failure),
            }
        };
        self.driver.halt();
        // It may still be behind a program that never began, and a shell would be too.
        program::Keeper::stop_yielding();
        ending
    }

    /// What is left of the processes, for the teardown.
    pub(crate) fn remains(&self) -> Remains {
        let grace = Duration::from_millis(self.context.spec.program.stop_grace_ms.into());
        let asked = self.stop.deadline().map_or(grace, Deadline::remaining);
        let agent = self.agent.as_ref().and_then(agent::Keeper::pid);
        Remains { agent, grace: asked.min(MAX_LEFTOVER_GRACE) }
    }

    /// Makes the cgroups of what is still to be started. systemd makes its own.
    fn make_cgroups(&mut self) -> Result<(), Failure> {
        if self.agent_executable.is_some() && self.agent_cgroup.is_none() {
            self.agent_cgroup = Some(self.cgroups.make("agent").map_err(Failure::of("agent"))?);
        }
        let program = &self.context.spec.program;
        if self.program.is_none() && self.program_cgroup.is_none() && program.mode == Mode::Exec {
            let cgroup = make_cgroup(&mut self.cgroups, program).map_err(Failure::of("program"))?;
            self.program_cgroup = Some(cgroup);
        }
        Ok(())
    }

    /// One round: do what can be done, see whether that was all, wait for more.
    fn turn(&mut self) -> Result<Option<Ending>, Failure> {
        self.obey_commands();
        while let Some(turn) = self.driver.take_turn() {
            self.start(turn).map_err(|fault| self.driver.fail_turn(turn, fault))?;
        }
        if let Some(failure) = self.driver.failure() {
            return Err(failure);
        }
        if let Some(ending) = self.ending() {
            return Ok(Some(ending));
        }
        // While the driver's threads wait for modules and disks. Whoever waits for nothing makes them when they are needed.
        self.make_cgroups()?;
        let ready = self.wait()?;
        self.handle(ready)?;
        Ok(None)
    }

    fn ending(&mut self) -> Option<Ending> {
        match &self.program {
            Some(program) => {
                let status = program.exit()?;
                self.reporter.emit(Event::Exit { status, oom: program.had_oom_kill() });
                Some(Ending::ProgramEnded)
            }
            None => self.stop.is_requested().then_some(Ending::Stopped),
        }
    }

    /// Does a stage that starts a process.
    fn start(&mut self, turn: Turn) -> Result<(), Fault> {
        match turn.process {
            Process::Agent => self.start_agent(turn),
            Process::Program => match self.context.spec.program.mode {
                Mode::Exec => self.start_program(turn),
                Mode::Systemd => Err(self.hand_over()),
            },
            Process::Headers => {
                self.start_headers(turn);
                Ok(())
            }
        }
    }

    /// Nothing waits for the worker, and the boot does not fail for it.
    fn start_headers(&mut self, turn: Turn) {
        if let Some(headers) = &self.context.spec.headers {
            let (null, console) = (self.null.as_fd(), self.console.as_fd());
            let (keeper, event) = headers::Keeper::start(headers, &mut self.cgroups, null, console);
            self.headers = keeper;
            self.reporter.emit(event);
        }
        self.driver.complete_turn(turn);
        self.free_initramfs();
    }

    /// Comes back only with the reason why PID 1 could not be handed over.
    fn hand_over(&self) -> Fault {
        let program = &self.context.spec.program;
        let prepare = || free_initramfs(&self.context);
        systemd::hand_over(program, &self.reporter, self.console.as_fd(), prepare).into()
    }

    fn start_agent(&mut self, turn: Turn) -> Result<(), Fault> {
        let (Some(executable), Some(agent)) = (self.agent_executable.take(), &self.context.spec.agent) else {
            return Ok(());
        };
        let cgroup = self.agent_cgroup.take().map_or_else(|| self.cgroups.make("agent"), Ok)?;
        let (inheritance, output) = prepare(executable, &self.context.spec, agent, cgroup)?;
        self.output = Some(output);
        let stdio = Stdio { null: self.null.as_fd(), console: self.console.as_fd() };
        self.agent = Some(agent::Keeper::start(inheritance, agent.ready_timeout_ms, turn, stdio)?);
        Ok(())
    }

    fn start_program(&mut self, turn: Turn) -> Result<(), Fault> {
        let program = &self.context.spec.program;
        let cgroup = self.program_cgroup.take();
        let cgroup = cgroup.map_or_else(|| make_cgroup(&mut self.cgroups, program), Ok)?;
        // The ends go with this call: once the program and its children are gone, the pipes end.
        let output = self.output.take();
        if output.is_none() {
            self.reporter.begin_console();
        }
        let console = (self.console.as_fd(), self.console.as_fd());
        let (stdout, stderr) =
            output.as_ref().map_or(console, |ends| (ends.stdout.as_fd(), ends.stderr.as_fd()));
        let stdio = [self.null.as_fd(), stdout, stderr];
        self.program = Some(program::Keeper::start(program, cgroup, stdio, turn)?);
        Ok(())
    }

    /// Waits for anything to happen, the time to tell of it included.
    fn wait(&self) -> Result<Ready, Failure> {
        let supervise = |error: CallError| Failure { stage: "supervise".to_owned(), fault: error.into() };
        let tell_due = (!self.tell_due.passed()).then_some(self.tell_due);
        if tell_due.is_none() {
            self.reporter.tell().map_err(supervise)?;
        }
        let pipe = self.agent.as_ref().and_then(agent::Keeper::pending);
        let outcome = self.program.as_ref().and_then(program::Keeper::pending);
        let deadlines = [
            self.driver.next_deadline(),
            self.stop.deadline(),
            self.agent.as_ref().and_then(agent::Keeper::deadline),
            outcome.map(|(_, deadline)| deadline),
            tell_due,
        ];
        let mut fds = vec![readable(self.signals.as_fd()), readable(self.context.wake.as_fd())];
        fds.extend(pipe.map(readable));
        fds.extend(outcome.map(|(outcome, _)| readable(outcome)));
        poll(&mut fds, deadlines.into_iter().flatten().min())
            .map_err(|errno| supervise(CallError::of("ppoll")(errno)))?;
        let mut ready = fds.iter().map(crate::wait::is_ready);
        let mut next = |exists: bool| exists && ready.next().unwrap_or(false);
        Ok(Ready {
            signals: next(true),
            wake: next(true),
            agent: next(pipe.is_some()),
            program: next(outcome.is_some()),
        })
    }

    fn handle(&mut self, ready: Ready) -> Result<(), Failure> {
        if ready.wake {
            self.context.wake.lower();
        }
        if ready.program {
            self.learn_outcome()?;
        }
        if ready.agent {
            let news = self.agent.as_mut().and_then(agent::Keeper::on_pipe);
            self.hear(news)?;
        }
        if ready.signals {
            while let Some(request) = self.signals.next() {
                self.obey(request)?;
            }
        }
        self.keep_time()
    }

    fn keep_time(&mut self) -> Result<(), Failure> {
        if self.stop.take_kill()
            && let Some(program) = &self.program
        {
            program.kill();
        }
        if let Some((turn, fault)) = self.program.as_ref().and_then(program::Keeper::overdue) {
            return Err(self.driver.fail_turn(turn, fault));
        }
        let stdio = Stdio { null: self.null.as_fd(), console: self.console.as_fd() };
        let news = self.agent.as_mut().and_then(|agent| agent.on_time(stdio));
        self.hear(news)
    }

    fn hear(&mut self, news: Option<News>) -> Result<(), Failure> {
        match news {
            None => Ok(()),
            Some(News::Failed(turn, fault)) => Err(self.driver.fail_turn(turn, fault)),
            Some(News::Ready(turn)) => {
                self.reporter.emit(Event::AgentReady);
                if let Some(turn) = turn {
                    self.driver.complete_turn(turn);
                }
                Ok(())
            }
        }
    }

    fn learn_outcome(&mut self) -> Result<(), Failure> {
        let Some(program) = &mut self.program else { return Ok(()) };
        match program.learn_outcome(&self.context.spec.program) {
            None => Ok(()),
            Some(Err((turn, fault))) => Err(self.driver.fail_turn(turn, fault)),
            Some(Ok((pid, turn))) => {
                let pid = u32::try_from(pid.as_raw()).unwrap_or(0);
                self.reporter.emit(Event::ProgramStart { mode: Mode::Exec, pid });
                program::Keeper::stop_yielding();
                self.driver.complete_turn(turn);
                // Where headers follow, their driver may still be in there.
                if self.context.spec.headers.is_none() {
                    self.free_initramfs();
                }
                // A stop that came while the program was being started.
                if self.stop.is_requested() {
                    self.signal_program(self.context.spec.program.stop_signal.into());
                }
                Ok(())
            }
        }
    }

    /// Nobody waits for it, so it happens beside the program's first steps.
    fn free_initramfs(&self) {
        let context = Arc::clone(&self.context);
        // Without the thread the memory stays in use, and that is all.
        let _ = sys::spawn(move || free_initramfs(&context));
    }

    fn obey(&mut self, request: Request) -> Result<(), Failure> {
        match request {
            Request::Reap => return self.reap(),
            Request::Stop { grace_ms } => self.request_stop(grace_ms),
            Request::Forward(number) => self.signal_program(number),
        }
        Ok(())
    }

    fn obey_commands(&mut self) {
        while let Some(command) = self.reporter.take_command() {
            match command {
                InitCommand::Stop { grace_ms } => self.request_stop(Some(grace_ms)),
                InitCommand::Signal { number } => self.signal_program(number.into()),
                // The event stream has done it.
                InitCommand::Restore { .. } | InitCommand::Repeat => {}
            }
        }
    }

    fn request_stop(&mut self, grace_ms: Option<u32>) {
        let program = &self.context.spec.program;
        match self.stop.request(grace_ms.unwrap_or(program.stop_grace_ms)) {
            Answer::Begin => self.signal_program(program.stop_signal.into()),
            Answer::GoOn => {}
        }
    }

    fn signal_program(&self, number: i32) {
        if let Some(program) = self.program.as_ref().filter(|program| program.is_running()) {
            program.signal(number);
        }
    }

    /// Reaps whatever has ended: the program, the agent, the headers worker, and the orphans of all.
    fn reap(&mut self) -> Result<(), Failure> {
        while let Some((pid, status)) = sys::reap() {
            if let Some(program) = &mut self.program {
                program.reaped(pid, status);
            }
            if let Some(event) = self.headers.as_ref().and_then(|headers| headers.on_exit(pid, status)) {
                self.headers = None;
                self.reporter.emit(event);
            }
            if let Some(agent) = &mut self.agent {
                let (event, news) = agent.on_exit(pid, status);
                if let Some(event) = event {
                    self.reporter.emit(event);
                }
                self.hear(news)?;
            }
        }
        Ok(())
    }
}

/// Frees what of the initramfs the root does not lie on.
fn free_initramfs(context: &Context) {
    let keep = match &context.spec.root.source {
        RootSource::Initramfs(path) => Some(path.as_str()),
        RootSource::Disk(_) => None,
    };
    root::free_initramfs(&context.initramfs, keep);
}

/// What a wait found.
#[derive(Debug, Clone, Copy)]
struct Ready {
    signals: bool,
    wake: bool,
    agent: bool,
    program: bool,
}

/// How a process ended, in words.
fn words(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("code {code}"),
        ExitStatus::Signal(signal) => format!("signal {signal}"),
    }
}
