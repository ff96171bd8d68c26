//! Sentinels out: one log of this boot, and sinks that follow it at their own pace.
//!
//! ```text
//!            ┌──► console thread ──► serial console, one write(2) a line
//! emit ─► log┼──► stream thread  ──► host: vsock, or a port ──► stop and signal commands back
//!            └──► /run/firstlight/events (tmpfs)
//! ```
//!
//! While a boot is young, its events wait to become signed lines: until the boot is over, or has taken so long that somebody
//! will want to know (`TELL_AFTER` of the supervisor's). Each carries the time at which it happened.
//!
//! From then on, emitting appends to the log and wakes the sinks; it never waits for one. Until the boot is over, its stages
//! go before the sinks, which then make do with the time that stages spend waiting for disks: a short boot is over before the
//! console has a thread. A sink that connects late, or again, reads the log from its first byte. Who waits for sinks, before
//! a program has the console, PID 1 or the machine ends, does so with a deadline.

mod commands;
mod connection;
mod log;
mod serial;
mod stream;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use firstlight_protocol::agent_config::EVENTS_PATH;
use firstlight_protocol::boot_spec::{BootSpec, Transport};
use firstlight_protocol::init_command::InitCommand;
use firstlight_protocol::sentinel::Event;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::console;
use crate::error::{CallError, Fault};
use crate::sys;
use crate::wait::{Deadline, Flag, lock};
use commands::Commands;
use log::Log;
pub(crate) use log::{MAX_AGENT_EVENTS, Signer, boot_time, last_sequence};

/// How long the end of the boot waits for the sinks to take what they have not taken yet.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The niceness of whoever yields to everyone else.
const LEAST_FAVOURED: i32 = 19;

/// How long a panicking thread waits for the lock it may hold itself.
const EMERGENCY_ATTEMPTS: u32 = 100;

/// Says what happens, to everyone who listens. Clones share one log.
#[derive(Debug, Clone)]
pub(crate) struct Reporter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: Mutex<Log>,
    /// Signalled when a sink has taken a line, and when there is one to take.
    changed: Condvar,
    /// What the console's thread writes to, where the console follows.
    console: Option<File>,
    /// Raised for the stream's thread, which waits in `poll(2)`.
    stream_wake: Flag,
    commands: Commands,
    /// Where the host listens.
    transport: Transport,
    /// The sinks' threads while they yield to the boot; `None` when it is over.
    yielding: Mutex<Option<Vec<Pid>>>,
}

impl Reporter {
    /// Starts reporting the boot that began at `since`, in nanoseconds of [`boot_time`]. Nobody follows until they are
    /// told to. `wake` is raised when the host has sent a command.
    ///
    /// # Errors
    /// [`CallError`] of a descriptor that cannot be made.
    pub(crate) fn start(
        spec: &BootSpec,
        since: u64,
        console: &File,
        wake: Arc<Flag>,
    ) -> Result<Reporter, CallError> {
        let console = console.try_clone().map_err(CallError::io("dup", "/dev/console"))?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND | OFlag::O_CLOEXEC;
        let events = open(EVENTS_PATH, flags, Mode::from_bits_truncate(0o600));
        let events = events.map_err(CallError::on("open", EVENTS_PATH))?;
        let log = Log::new(Signer::new(spec), events.into());
        let shared = Arc::new(Shared {
            log: Mutex::new(log),
            changed: Condvar::new(),
            console: Some(console),
            stream_wake: Flag::new().map_err(CallError::of("eventfd"))?,
            commands: Commands::new(wake),
            transport: spec.boot.transport,
            yielding: Mutex::new(Some(Vec::new())),
        });
        lock(&shared.log).append_at(since, || Event::InitStart);
        Ok(Reporter(shared))
    }

    /// Has the sinks take what has happened so far and what will, unless they do.
    ///
    /// # Errors
    /// [`CallError`] of a thread that cannot be started; then the console is still to be done.
    pub(crate) fn tell(&self) -> Result<(), CallError> {
        let mut log = lock(&self.0.log);
        self.0.settle(&mut log);
        // Without the thread there is no stream; the serial console has every sentinel.
        let _ = self.0.start_stream(&mut log);
        self.0.start_console(&mut log)
    }

    /// Has the console say that init has begun, unless it has. To be called before a program starts whose output is the
    /// console's: to the host, what the console says before are the kernel's words.
    pub(crate) fn begin_console(&self) {
        let Some(mut console) = self.0.console.as_ref() else { return };
        let mut log = lock(&self.0.log);
        if log.console.is_due() {
            log.say_first();
            let line = log.line_at(log.console_taken).to_vec();
            log.console_taken += line.len();
            drop(log);
            console::set_verbatim(console, true);
            // A console that cannot be written is no reason to end a boot, nor is there anywhere to say so.
            let _ = console.write_all(&line);
            return;
        }
        // It has a thread, which is waited for, and so should not yield any more.
        drop(log);
        self.0.stop_yielding();
        drop(self.0.wait_for_console());
    }

    /// Goes on with this boot's log where an earlier process left it, on `console` too if there is one. No sink follows it
    /// until it is told to.
    ///
    /// # Errors
    /// [`CallError`], which names the file.
    pub(crate) fn resume(
        spec: &BootSpec,
        console: Option<File>,
        wake: Arc<Flag>,
    ) -> Result<Reporter, CallError> {
        let lines = std::fs::read(EVENTS_PATH).map_err(CallError::io("read", EVENTS_PATH))?;
        let copy = File::options().append(true).open(EVENTS_PATH);
        let copy = copy.map_err(CallError::io("open", EVENTS_PATH))?;
        let mut log = Log::resume(Signer::new(spec), copy, lines);
        if let Some(mut console) = console.as_ref() {
            // A getty may have left its prompt there.
            let _ = console.write_all(b"\n");
            log.console.await_start();
        }
        Ok(Reporter(Arc::new(Shared {
            log: Mutex::new(log),
            changed: Condvar::new(),
            console,
            stream_wake: Flag::new().map_err(CallError::of("eventfd"))?,
            commands: Commands::new(wake),
            transport: spec.boot.transport,
            // There is no boot left to go before its sinks.
            yielding: Mutex::new(None),
        })))
    }

    /// Bytes of the log so far.
    pub(crate) fn len(&self) -> usize {
        lock(&self.0.log).rest_from(0).len()
    }

    /// Takes in what other processes of this boot have added to the log.
    pub(crate) fn absorb(&self, bytes: &[u8]) {
        lock(&self.0.log).absorb(bytes);
        self.0.wake();
    }

    /// Becomes another program, and has `event` said on the console and in the log once that has succeeded. Comes back
    /// with the errno only if it has not.
    pub(crate) fn hand_over(
        &self,
        event: Event,
        console: BorrowedFd<'_>,
        become_program: impl FnOnce() -> Errno,
    ) -> Errno {
        self.0.stop_yielding();
        let mut log = lock(&self.0.log);
        self.0.settle(&mut log);
        // Without the thread the console lacks the stages; the stream has them.
        let _ = self.0.start_console(&mut log);
        drop(log);
        // The console's thread ends with this program. The stream, if it has not begun, is its successor's.
        self.0.wait_for_console().hand_over(event, console, become_program)
    }

    /// Says that `event` happens now.
    pub(crate) fn emit(&self, event: Event) {
        let ends_boot = matches!(event, Event::ProgramStart { .. } | Event::Fatal { .. } | Event::PowerOff);
        self.0.append(&mut lock(&self.0.log), event);
        if ends_boot {
            self.0.stop_yielding();
            // Where it cannot be started now, it is when the log is closed.
            let _ = self.tell();
        }
    }

    /// Says that what began at `since`, in nanoseconds of [`boot_time`], is done. `event` is given the nanoseconds it took, up
    /// to the very moment that the event carries: whoever subtracts one from the other gets `since`. That may be later.
    pub(crate) fn emit_since(&self, since: u64, event: impl FnOnce(u64) -> Event + Send + 'static) {
        let mut log = lock(&self.0.log);
        if log.append_since(since, event) {
            self.0.wake_followers(&log);
        }
    }

    /// Says that the boot failed.
    pub(crate) fn fatal(&self, stage: &str, fault: &Fault) {
        self.emit(Event::Fatal {
            stage: stage.to_owned(),
            errno: fault.errno.map(|errno| errno as i32),
            path: fault.path.clone(),
            error: fault.error.clone(),
        });
    }

    /// Takes the oldest command the host has sent.
    pub(crate) fn take_command(&self) -> Option<InitCommand> {
        self.0.commands.take()
    }

    /// Has the event stream follow too: to be called once, when there is a driver for it. The host is dialled when there is
    /// something to tell, so a short boot is over before.
    ///
    /// # Errors
    /// [`CallError`] of a thread that cannot be started. The boot goes on without the stream; the serial console has every
    /// sentinel.
    pub(crate) fn open_stream(&self) -> Result<(), CallError> {
        let mut log = lock(&self.0.log);
        log.stream.await_start();
        if log.is_settled() { self.0.start_stream(&mut log) } else { Ok(()) }
    }

    /// Waits until every sink has taken all there is and has ended, but no longer than [`FLUSH_TIMEOUT`].
    pub(crate) fn flush(&self) {
        let deadline = Deadline::after(FLUSH_TIMEOUT);
        let mut log = lock(&self.0.log);
        // Sinks that have taken all end.
        log.settle();
        log.closing = true;
        drop(log);
        self.0.wake();
        let _ = self.tell();
        let mut log = lock(&self.0.log);
        if log.console.is_due() {
            drop(log);
            // There is no thread to be had, and nobody else left to do it.
            serial::follow(&self.0);
            log = lock(&self.0.log);
        }
        if log.stream.is_due() {
            log.stream.end();
        }
        while !log.sinks_are_done() && !deadline.passed() {
            log = self.0.wait_for_change(log, deadline);
        }
    }

    /// Reports a failure from a thread that may hold the log's lock itself, such as one that panics. Gives up, and
    /// says nothing, when the lock stays taken.
    pub(crate) fn emergency(&self, stage: &str, error: &str) {
        for _ in 0..EMERGENCY_ATTEMPTS {
            if let Ok(mut log) = self.0.log.try_lock() {
                let event = Event::Fatal {
                    stage: stage.to_owned(),
                    errno: None,
                    path: None,
                    error: error.to_owned(),
                };
                self.0.append(&mut log, event);
                drop(log);
                return self.flush();
            }
            std::thread::yield_now();
        }
    }
}

impl Shared {
    /// Makes lines of what has happened.
    fn settle(&self, log: &mut Log) {
        if !log.is_settled() {
            log.settle();
            self.wake();
        }
    }

    fn start_console(self: &Arc<Self>, log: &mut Log) -> Result<(), CallError> {
        if log.console.is_due() {
            // Here and not in the thread: what others do with the terminal afterwards stays.
            if let Some(console) = &self.console {
                console::set_verbatim(console, true);
            }
            self.start_sink(serial::follow)?;
            log.console.open();
        }
        Ok(())
    }

    fn start_stream(self: &Arc<Self>, log: &mut Log) -> Result<(), CallError> {
        if log.stream.is_due() {
            self.start_sink(stream::follow)?;
            log.stream.open();
        }
        Ok(())
    }

    fn start_sink(self: &Arc<Self>, follow: fn(&Shared)) -> Result<(), CallError> {
        let shared = Arc::clone(self);
        let sink = move || {
            shared.yield_to_boot();
            follow(&shared);
        };
        sys::spawn(sink).map_err(CallError::of("start a thread"))
    }

    /// Waits until the console has taken all there is, but no longer than [`FLUSH_TIMEOUT`].
    fn wait_for_console(&self) -> MutexGuard<'_, Log> {
        let deadline = Deadline::after(FLUSH_TIMEOUT);
        let mut log = lock(&self.log);
        while !log.console_has_all() && !deadline.passed() {
            log = self.wait_for_change(log, deadline);
        }
        log
    }

    fn wait_for_change<'a>(&'a self, log: MutexGuard<'a, Log>, deadline: Deadline) -> MutexGuard<'a, Log> {
        match self.changed.wait_timeout(log, deadline.remaining()) {
            Ok((log, _)) => log,
            Err(poisoned) => poisoned.into_inner().0,
        }
    }

    fn append(&self, log: &mut Log, event: Event) {
        if log.append(event) {
            self.wake_followers(log);
        }
    }

    fn wake_followers(&self, log: &Log) {
        if log.is_followed() {
            self.wake();
        }
    }

    /// Lets the boot go before the calling thread, a sink's, for as long as there is a boot.
    fn yield_to_boot(&self) {
        let thread = sys::thread_id();
        let mut yielding = lock(&self.yielding);
        let nice = if yielding.is_some() { LEAST_FAVOURED } else { 0 };
        yielding.iter_mut().for_each(|threads| threads.push(thread));
        // A sink that does not yield is no worse than that.
        let _ = sys::set_nice(thread, nice);
    }

    fn stop_yielding(&self) {
        for thread in lock(&self.yielding).take().into_iter().flatten() {
            // ESRCH: the sink has ended.
            let _ = sys::set_nice(thread, 0);
        }
    }

    fn wake(&self) {
        self.changed.notify_all();
        self.stream_wake.raise();
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream_wake.as_fd()
    }
}
