//! The log of one boot's sentinels, as the bytes that every sink sends.

use std::cell::OnceCell;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

use firstlight_protocol::boot_spec::BootSpec;
use firstlight_protocol::hex::{BootId, Secret};
use firstlight_protocol::sentinel::{Event, MacKey, Sentinel};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};

use crate::sys::Witness;

/// Events about a restarting agent that are kept. An agent that fails for ever would fill the memory otherwise; after
/// these, its ups and downs are no longer told. Everything else always is.
pub(crate) const MAX_AGENT_EVENTS: u32 = 1_000;

/// Most events that are told once more to a copy's host. Each comes once, or is the same each time.
const MAX_STANDING: usize = 32;

/// What turns an event into a line.
#[derive(Debug)]
pub(crate) struct Signer {
    boot: BootId,
    secret: Secret,
    /// Made when the first line is: it takes as much hashing as a line.
    key: OnceCell<MacKey>,
}

impl Signer {
    pub(crate) fn new(spec: &BootSpec) -> Signer {
        Signer::of(spec.boot_id, spec.mac_key.clone())
    }

    fn of(boot: BootId, secret: Secret) -> Signer {
        Signer { boot, secret, key: OnceCell::new() }
    }

    fn key(&self) -> &MacKey {
        self.key.get_or_init(|| MacKey::new(&self.secret))
    }

    /// The line of `event`, number `seq` of its boot, which happened at `t`.
    pub(crate) fn line(&self, seq: u64, t: u64, event: Event) -> String {
        Sentinel { boot: self.boot, seq, t, event }.render(self.key())
    }
}

/// The log, and which sinks follow it.
#[derive(Debug)]
pub(super) struct Log {
    signer: Signer,
    /// What happened that is no line yet.
    unsaid: Vec<Unsaid>,
    /// Whether an event becomes a line at once: see [`Log::settle`].
    settled: bool,
    lines: Vec<u8>,
    count: u64,
    agent_events: u32,
    /// The events that say how things stand, for a host that never heard the others.
    standing: Vec<Event>,
    /// How often the log was begun anew. Whoever follows it begins anew too.
    generation: u32,
    /// The agent's copy.
    copy: File,
    pub(super) console: Sink,
    /// Bytes that the console has taken.
    pub(super) console_taken: usize,
    pub(super) stream: Sink,
    /// No more events follow, and sinks end when they have sent all.
    pub(super) closing: bool,
}

/// Something that happened. The event is made when it is told.
struct Unsaid {
    /// When it happened.
    t: u64,
    event: Box<dyn FnOnce() -> Event + Send>,
}

impl fmt::Debug for Unsaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsaid").field("t", &self.t).finish_non_exhaustive()
    }
}

/// Whether a sink has something left to do.
#[derive(Debug)]
pub(super) enum Sink {
    /// It was never opened, or has ended.
    Ended,
    /// It will follow the log.
    Due,
    /// It follows the log.
    Open,
}

impl Sink {
    pub(super) fn await_start(&mut self) {
        *self = Sink::Due;
    }

    pub(super) fn is_due(&self) -> bool {
        match self {
            Sink::Due => true,
            Sink::Ended | Sink::Open => false,
        }
    }

    fn is_open(&self) -> bool {
        match self {
            Sink::Open => true,
            Sink::Ended | Sink::Due => false,
        }
    }

    pub(super) fn open(&mut self) {
        *self = Sink::Open;
    }

    pub(super) fn end(&mut self) {
        *self = Sink::Ended;
    }

    fn has_ended(&self) -> bool {
        match self {
            Sink::Ended => true,
            Sink::Due | Sink::Open => false,
        }
    }
}

impl Log {
    /// An empty log, to be followed by the console. It is not settled.
    pub(super) fn new(signer: Signer, copy: File) -> Log {
        Log {
            signer,
            unsaid: Vec::new(),
            settled: false,
            lines: Vec::new(),
            count: 0,
            agent_events: 0,
            standing: Vec::new(),
            generation: 0,
            copy,
            console: Sink::Due,
            console_taken: 0,
            stream: Sink::Ended,
            closing: false,
        }
    }

    /// The log that an earlier process of this boot has begun as `lines`, which the console has taken. It is settled, and no
    /// sink follows it yet.
    pub(super) fn resume(signer: Signer, copy: File, lines: Vec<u8>) -> Log {
        let count = last_sequence(&lines);
        let console_taken = lines.len();
        Log { settled: true, lines, count, console: Sink::Ended, console_taken, ..Log::new(signer, copy) }
    }

    /// Takes in what another process has written to the copy.
    pub(super) fn absorb(&mut self, bytes: &[u8]) {
        self.lines.extend_from_slice(bytes);
    }

    /// Appends an event that happens now. `false` when sinks have nothing to take for it.
    pub(super) fn append(&mut self, event: Event) -> bool {
        let about_agent = matches!(event, Event::AgentExit { .. } | Event::AgentReady);
        if about_agent && self.agent_events >= MAX_AGENT_EVENTS {
            return false;
        }
        self.agent_events += u32::from(about_agent);
        self.append_at(boot_time(), move || event);
        self.settled
    }

    /// Appends that something that began at `since` is done now; `event` is given the nanoseconds it took.
    pub(super) fn append_since(
        &mut self,
        since: u64,
        event: impl FnOnce(u64) -> Event + Send + 'static,
    ) -> bool {
        let now = boot_time();
        self.append_at(now, move || event(now.saturating_sub(since)));
        self.settled
    }

    /// Appends an event that happened at `t`.
    pub(super) fn append_at(&mut self, t: u64, event: impl FnOnce() -> Event + Send + 'static) {
        if self.settled {
            self.say(t, event());
        } else {
            self.unsaid.push(Unsaid { t, event: Box::new(event) });
        }
    }

    /// Makes lines of the events so far, and from now on of each as it comes. Rendering and signing are work, and a boot goes
    /// before them for as long as it is a short one.
    pub(super) fn settle(&mut self) {
        self.settled = true;
        for Unsaid { t, event } in std::mem::take(&mut self.unsaid) {
            self.say(t, event());
        }
    }

    /// Makes a line of the first event alone, if it is none yet.
    pub(super) fn say_first(&mut self) {
        if self.count == 0 && !self.unsaid.is_empty() {
            let Unsaid { t, event } = self.unsaid.remove(0);
            self.say(t, event());
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Makes a line of an event, with the next sequence number.
    fn say(&mut self, t: u64, event: Event) {
        if stands(&event) && !self.standing.contains(&event) && self.standing.len() < MAX_STANDING {
            self.standing.push(event.clone());
        }
        self.count += 1;
        let line = self.signer.line(self.count, t, event);
        self.lines.extend_from_slice(line.as_bytes());
        // The copy is a help for the agent, on tmpfs; when memory is so short that it fails, the sinks still get it.
        let _ = self.copy.write_all(line.as_bytes());
    }

    /// Has `event` said by a witness if `become_program` succeeds, as this log's next. Otherwise gives the errno, and
    /// nothing was said. The lock keeps others from the copy until the witness has spoken.
    pub(super) fn hand_over(
        &mut self,
        event: Event,
        console: BorrowedFd<'_>,
        become_program: impl FnOnce() -> Errno,
    ) -> Errno {
        self.settle();
        let line = self.signer.line(self.count + 1, boot_time(), event);
        let copy = match self.copy.try_clone() {
            Ok(copy) => Flock::lock(copy, FlockArg::LockExclusive).map_err(|(_, errno)| errno),
            Err(error) => Err(crate::error::io_errno(&error)),
        };
        let witness = copy.and_then(|copy| {
            let witness = Witness::post(line.as_bytes(), &[copy.as_fd(), console])?;
            Ok((copy, witness))
        });
        match witness {
            Ok((_copy, witness)) => {
                let errno = become_program();
                witness.dismiss();
                errno
            }
            Err(errno) => errno,
        }
    }

    /// This guest is a copy, restored from a snapshot: begins the log of `boot`, with how things stand. Events of the
    /// boot it was copied from are never said again. `false` when that is done already.
    pub(super) fn become_copy(&mut self, boot: BootId) -> bool {
        let from = self.signer.boot;
        if from == boot {
            return false;
        }
        self.settle();
        self.signer = Signer::of(boot, self.signer.key().of_copy(boot));
        self.lines.clear();
        self.count = 0;
        self.console_taken = 0;
        self.generation = self.generation.wrapping_add(1);
        // As with every line: the copy is a help, and the sinks have it all.
        let _ = self.copy.set_len(0);
        let now = boot_time();
        self.say(now, Event::Restored { from });
        for event in std::mem::take(&mut self.standing) {
            self.say(now, event);
        }
        true
    }

    /// Which log this is: another number, another first line.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// The first whole line at or after `offset`, newline included; empty at the end of the log.
    pub(super) fn line_at(&self, offset: usize) -> &[u8] {
        let rest = self.rest_from(offset);
        let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |newline| newline + 1);
        rest.get(..end).unwrap_or_default()
    }

    /// Everything from `offset` on.
    pub(super) fn rest_from(&self, offset: usize) -> &[u8] {
        self.lines.get(offset..).unwrap_or_default()
    }

    /// Whether the console has ended or taken all there is.
    pub(super) fn console_has_all(&self) -> bool {
        self.console.has_ended() || self.console_taken >= self.lines.len()
    }

    /// Whether there is a sink that waits for what is appended.
    pub(super) fn is_followed(&self) -> bool {
        [&self.console, &self.stream].into_iter().any(Sink::is_open)
    }

    /// Whether no sink is left that has not sent all.
    pub(super) fn sinks_are_done(&self) -> bool {
        self.console.has_ended() && self.stream.has_ended()
    }
}

/// The number of the last whole line of a log; 0 where there is none.
pub(crate) fn last_sequence(lines: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(lines);
    let numbers =
        text.lines().rev().filter_map(|line| line.split(' ').nth(2)?.strip_prefix("seq=")?.parse().ok());
    numbers.into_iter().next().unwrap_or(0)
}

/// Whether an event says how things stand, and not only how they came to.
fn stands(event: &Event) -> bool {
    match event {
        Event::AgentReady
        | Event::ProgramStart { .. }
        | Event::SystemReady { .. }
        | Event::Exit { .. }
        | Event::Fatal { .. }
        | Event::PowerOff => true,
        Event::InitStart
        | Event::Restored { .. }
        | Event::StageDone { .. }
        | Event::AgentExit { .. }
        | Event::HeadersStart
        | Event::HeadersReady
        | Event::HeadersSkipped { .. }
        | Event::HeadersFailed { .. } => false,
    }
}

/// Nanoseconds since the kernel started.
pub(crate) fn boot_time() -> u64 {
    // The clock exists since Linux 2.6.39, and its seconds are never negative.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(std::time::Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstlight_protocol::sentinel::ExitStatus;

    fn signer() -> Signer {
        Signer::of(BootId([1; 4]), Secret([2; 32]))
    }

    fn unsettled() -> (Log, tempfile::NamedTempFile) {
        let copy = tempfile::NamedTempFile::new().unwrap();
        (Log::new(signer(), File::options().append(true).open(copy.path()).unwrap()), copy)
    }

    fn log() -> (Log, tempfile::NamedTempFile) {
        let (mut log, copy) = unsettled();
        log.settle();
        (log, copy)
    }

    #[test]
    fn the_first_event_can_be_said_before_the_others() {
        let (mut log, _copy) = unsettled();
        log.say_first();
        log.append_at(7, || Event::InitStart);
        log.append_at(8, || Event::AgentReady);
        log.say_first();
        let first = log.rest_from(0).to_vec();
        log.say_first();
        assert_eq!(log.rest_from(0), first, "the second is not the first");
        log.settle();
        let all = log.rest_from(0);
        assert!(all.starts_with(&first) && last_sequence(&first) == 1 && last_sequence(all) == 2);
    }

    #[test]
    fn what_happens_before_the_log_is_settled_is_said_then_in_order_and_with_its_own_time() {
        let (mut log, copy) = unsettled();
        log.append_at(7, || Event::InitStart);
        assert!(!log.append(Event::AgentReady), "nobody need be woken for it");
        assert_eq!(log.rest_from(0), b"");
        log.settle();
        assert!(log.append(Event::PowerOff));
        let text = String::from_utf8(log.rest_from(0).to_vec()).unwrap();
        let said: Vec<Sentinel> =
            text.lines().map(|line| Sentinel::parse(line.as_bytes(), signer().key()).unwrap()).collect();
        assert_eq!(said.iter().map(|sentinel| sentinel.seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((said[0].t, &said[0].event), (7, &Event::InitStart));
        assert_eq!((&said[1].event, &said[2].event), (&Event::AgentReady, &Event::PowerOff));
        assert_eq!(std::fs::read(copy.path()).unwrap(), text.as_bytes());
    }

    #[test]
    fn when_something_began_is_told_to_the_nanosecond_by_its_end_and_how_long_it_took() {
        let (mut log, _copy) = log();
        let done = |dur| Event::StageDone {
            stage: "root".into(),
            dur,
            thread: None,
            index: None,
            needs: vec![],
            skipped: None,
        };
        log.append_since(5, done);
        let said = Sentinel::parse(log.line_at(0).trim_ascii_end(), signer().key()).unwrap();
        let Event::StageDone { dur, .. } = said.event else { panic!("{said:?}") };
        assert_eq!(said.t - dur, 5);
    }

    #[test]
    fn lines_are_numbered_from_one_and_read_back_one_by_one() {
        let (mut log, _copy) = log();
        log.append_at(7, || Event::InitStart);
        log.append(Event::AgentReady);
        let first = log.line_at(0).to_vec();
        let second = log.line_at(first.len()).to_vec();
        let parse = |line: &[u8]| Sentinel::parse(line.trim_ascii_end(), signer().key()).unwrap();
        let start = Sentinel { boot: BootId([1; 4]), seq: 1, t: 7, event: Event::InitStart };
        assert_eq!(parse(&first), start);
        assert_eq!((parse(&second).seq, parse(&second).event), (2, Event::AgentReady));
        assert_eq!(log.line_at(first.len() + second.len()), b"");
    }

    #[test]
    fn the_copy_has_everything() {
        let (mut log, copy) = log();
        log.append_at(7, || Event::InitStart);
        log.append(Event::PowerOff);
        assert_eq!(std::fs::read(copy.path()).unwrap(), log.rest_from(0));
    }

    #[test]
    fn a_log_goes_on_with_the_number_after_the_last() {
        let (mut first, copy) = log();
        first.append_at(7, || Event::InitStart);
        first.append(Event::AgentReady);
        let mut second = Log::resume(signer(), copy.reopen().unwrap(), first.rest_from(0).to_vec());
        let begun = second.rest_from(0).len();
        second.append(Event::PowerOff);
        let parsed = Sentinel::parse(second.line_at(begun).trim_ascii_end(), signer().key()).unwrap();
        assert_eq!((parsed.seq, parsed.event), (3, Event::PowerOff));
        assert_eq!(last_sequence(b""), 0);
    }

    #[test]
    fn a_hand_over_that_fails_says_nothing_and_takes_no_number() {
        let (mut log, copy) = log();
        log.append_at(7, || Event::InitStart);
        let console = tempfile::tempfile().unwrap();
        let errno = log.hand_over(Event::PowerOff, console.as_fd(), || Errno::ENOENT);
        assert_eq!(errno, Errno::ENOENT);
        assert_eq!(console.metadata().unwrap().len(), 0);
        log.append(Event::AgentReady);
        assert_eq!(last_sequence(&std::fs::read(copy.path()).unwrap()), 2);
    }

    #[test]
    fn a_copy_tells_how_things_stand_under_its_own_name_and_nothing_of_how_they_came_to() {
        let (mut log, copy) = log();
        log.append_at(7, || Event::InitStart);
        log.append(Event::AgentReady);
        log.append(Event::AgentExit { status: ExitStatus::Code(1), restarts: 1 });
        log.append(Event::AgentReady);
        let boot = BootId([9; 4]);
        assert!(log.become_copy(boot));
        assert!(!log.become_copy(boot), "a repeated command begins nothing anew");
        log.append(Event::PowerOff);
        let key = MacKey::new(&signer().key().of_copy(boot));
        let lines = log.rest_from(0).split_inclusive(|byte| *byte == b'\n');
        let told: Vec<Sentinel> =
            lines.map(|line| Sentinel::parse(line.trim_ascii_end(), &key).unwrap()).collect();
        let events: Vec<_> = told.iter().map(|sentinel| (sentinel.seq, sentinel.event.clone())).collect();
        let restored = Event::Restored { from: BootId([1; 4]) };
        assert_eq!(events, [(1, restored), (2, Event::AgentReady), (3, Event::PowerOff)]);
        assert!(told.iter().all(|sentinel| sentinel.boot == boot));
        assert_eq!(std::fs::read(copy.path()).unwrap(), log.rest_from(0));
    }

    #[test]
    fn a_copy_made_before_anything_was_told_tells_how_things_stand_as_well() {
        let (mut log, _copy) = unsettled();
        log.append_at(7, || Event::InitStart);
        log.append(Event::AgentReady);
        let boot = BootId([9; 4]);
        assert!(log.become_copy(boot));
        let key = MacKey::new(&signer().key().of_copy(boot));
        let lines = log.rest_from(0).split_inclusive(|byte| *byte == b'\n');
        let told = lines.map(|line| Sentinel::parse(line.trim_ascii_end(), &key).unwrap().event);
        assert_eq!(told.collect::<Vec<_>>(), [Event::Restored { from: BootId([1; 4]) }, Event::AgentReady]);
    }

    #[test]
    fn an_agent_that_fails_for_ever_does_not_fill_the_log_nor_hide_the_end() {
        let (mut log, _copy) = log();
        let exit = Event::AgentExit { status: ExitStatus::Code(1), restarts: 1 };
        let kept = (0..5_000).filter(|_| log.append(exit.clone())).count();
        assert_eq!(kept, usize::try_from(MAX_AGENT_EVENTS).unwrap());
        assert!(log.append(Event::PowerOff));
    }
}
