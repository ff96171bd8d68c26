//! `events`: carries the log to the host and the host's commands to systemd, from the first unit to the last process.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use firstlight_protocol::agent_config::EVENTS_PATH;
use firstlight_protocol::boot_spec::BootSpec;
use firstlight_protocol::init_command::InitCommand;
use firstlight_protocol::sentinel::Event;
use nix::libc;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::system_state::{SystemState, Waiting};
use super::{record, settings};
use crate::console;
use crate::error::{CallError, Fault};
use crate::report::Reporter;
use crate::sys::{self, kill};
use crate::wait::{Deadline, Flag, poll, readable};

const PID_1: i32 = 1;

/// What `kill(2)` takes for every process but PID 1 and the caller.
const EVERYTHING: i32 = -1;

/// The signals by which systemd ends a machine, counted from `SIGRTMIN`: in order, and at once. Source: `systemd(1)`.
const POWER_OFF: i32 = 4;
const POWER_OFF_NOW: i32 = 14;

/// Bytes read from the log at a time.
const CHUNK: usize = 4 << 10;

/// The carrier at work.
struct Carrier {
    spec: BootSpec,
    reporter: Reporter,
    wake: Arc<Flag>,
    log: File,
    /// Becomes readable when the log has grown.
    growth: Inotify,
    /// Bytes of the log that the reporter has.
    taken: usize,
    /// When a stop in order has taken too long.
    force_at: Option<Deadline>,
    system: Option<Waiting>,
}

/// Carries until systemd ends this process.
pub(super) fn carry() -> Result<(), Fault> {
    let spec = settings()?;
    let wake = Arc::new(Flag::new().map_err(CallError::of("eventfd"))?);
    let growth = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
    let growth = growth.map_err(CallError::of("inotify_init"))?;
    let watched = growth.add_watch(EVENTS_PATH, AddWatchFlags::IN_MODIFY);
    watched.map_err(CallError::on("watch", EVENTS_PATH))?;
    // Read after the watch was set, so that no line falls between the two.
    let reporter = Reporter::resume(&spec, None, Arc::clone(&wake))?;
    if spec.boot.event_stream {
        reporter.open_stream()?;
    }
    let log = File::open(EVENTS_PATH).map_err(CallError::io("open", EVENTS_PATH))?;
    let taken = reporter.len();
    let system = Waiting::start(&has_event(&log, taken)?);
    let mut carrier = Carrier { spec, reporter, wake, log, growth, taken, force_at: None, system };
    loop {
        carrier.turn()?;
    }
}

/// The log so far as text.
fn has_event(log: &File, len: usize) -> Result<String, CallError> {
    let mut bytes = vec![0; len];
    log.read_exact_at(&mut bytes, 0).map_err(CallError::io("read", EVENTS_PATH))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

impl Carrier {
    /// One round: do what can be done, wait for more.
    fn turn(&mut self) -> Result<(), Fault> {
        self.absorb()?;
        while let Some(command) = self.reporter.take_command() {
            self.obey(command);
        }
        if self.force_at.is_some_and(Deadline::passed) {
            self.force_at = None;
            force();
        }
        while sys::reap().is_some() {}
        let answer = self.system.as_ref().map(Waiting::as_fd);
        let mut fds = vec![readable(self.growth.as_fd()), readable(self.wake.as_fd())];
        fds.extend(answer.map(readable));
        poll(&mut fds, self.force_at).map_err(CallError::of("ppoll"))?;
        let answered = fds.get(2).is_some_and(crate::wait::is_ready);
        self.wake.lower();
        // EAGAIN: it was something else that happened.
        let _ = self.growth.read_events();
        if answered {
            self.hear_system()?;
        }
        Ok(())
    }

    fn absorb(&mut self) -> Result<(), CallError> {
        let mut bytes = [0; CHUNK];
        loop {
            let offset = u64::try_from(self.taken).unwrap_or(u64::MAX);
            let count = self.log.read_at(&mut bytes, offset).map_err(CallError::io("read", EVENTS_PATH))?;
            if count == 0 {
                return Ok(());
            }
            self.reporter.absorb(bytes.get(..count).unwrap_or_default());
            self.taken += count;
        }
    }

    fn obey(&mut self, command: InitCommand) {
        match command {
            InitCommand::Stop { grace_ms } => {
                let force_at = Deadline::after_ms(grace_ms);
                if self.force_at.is_none() {
                    tell_systemd(POWER_OFF);
                }
                // Of several requests the most impatient holds, as in exec mode.
                self.force_at = Some(self.force_at.map_or(force_at, |earlier| earlier.min(force_at)));
            }
            InitCommand::Signal { number } => send(number.into()),
            // The event stream repeats by itself, and a restore is never said: a guest with systemd cannot be saved yet.
            InitCommand::Restore { .. } | InitCommand::Repeat => {}
        }
    }

    /// The question to systemd is one step further.
    fn hear_system(&mut self) -> Result<(), Fault> {
        let Some(waiting) = self.system.take() else { return Ok(()) };
        match waiting.read() {
            SystemState::Unknown(waiting) => self.system = Some(waiting),
            SystemState::Known { state, failed } => {
                record::say(&self.spec, &Event::SystemReady { state, failed })?;
            }
            SystemState::Never(reason) => {
                console::say(&format!("systemd does not say when it has started: {reason}"));
            }
        }
        Ok(())
    }
}

fn tell_systemd(offset: i32) {
    send(libc::SIGRTMIN() + offset);
}

/// Ends what did not stop in time, as init does in exec mode. systemd would wait another minute and a half.
fn force() {
    tell_systemd(POWER_OFF_NOW);
    // Everything but PID 1 and this process; ESRCH means that nothing else is left.
    let _ = kill(EVERYTHING, libc::SIGKILL);
}

fn send(number: i32) {
    // PID 1 is always there.
    let _ = kill(PID_1, number);
}

/// What [`poll`] waits for.
impl AsFd for Waiting {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        let output: &OwnedFd = self.output();
        output.as_fd()
    }
}
