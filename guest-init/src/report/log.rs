//! The log of one boot's sentinels, as the bytes that every sink sends.

use std::fs::File;
use std::io::Write;

use firstlight_protocol::boot_spec::BootSpec;
use firstlight_protocol::hex::BootId;
use firstlight_protocol::sentinel::{Event, MacKey, Sentinel};
use nix::time::{ClockId, clock_gettime};

/// Events about a restarting agent that are kept. An agent that fails for ever would fill the memory otherwise; after
/// these, its ups and downs are no longer told. Everything else always is.
const MAX_AGENT_EVENTS: u32 = 1_000;

/// What turns an event into a line.
#[derive(Debug)]
pub(super) struct Signer {
    boot: BootId,
    key: MacKey,
}

impl Signer {
    pub(super) fn new(spec: &BootSpec) -> Signer {
        Signer { boot: spec.boot_id, key: MacKey::new(&spec.mac_key) }
    }
}

/// The log, and which sinks follow it.
#[derive(Debug)]
pub(super) struct Log {
    signer: Signer,
    lines: Vec<u8>,
    count: u64,
    agent_events: u32,
    /// The agent's copy.
    copy: File,
    pub(super) console: Sink,
    pub(super) stream: Sink,
    /// No more events follow, and sinks end when they have sent all.
    pub(super) closing: bool,
}

/// Whether a sink has something left to do.
#[derive(Debug)]
pub(super) enum Sink {
    /// It was never opened, or has ended.
    Ended,
    /// It follows the log.
    Open,
}

impl Sink {
    pub(super) fn open(&mut self) {
        *self = Sink::Open;
    }

    pub(super) fn end(&mut self) {
        *self = Sink::Ended;
    }

    fn has_ended(&self) -> bool {
        match self {
            Sink::Ended => true,
            Sink::Open => false,
        }
    }
}

impl Log {
    /// An empty log, followed by the console.
    pub(super) fn new(signer: Signer, copy: File) -> Log {
        Log {
            signer,
            lines: Vec::new(),
            count: 0,
            agent_events: 0,
            copy,
            console: Sink::Open,
            stream: Sink::Ended,
            closing: false,
        }
    }

    /// Appends an event that happens now. `false` when it is not kept.
    pub(super) fn append(&mut self, event: Event) -> bool {
        let about_agent = matches!(event, Event::AgentExit { .. } | Event::AgentReady);
        if about_agent && self.agent_events >= MAX_AGENT_EVENTS {
            return false;
        }
        self.agent_events += u32::from(about_agent);
        self.append_at(boot_time(), event);
        true
    }

    /// Appends an event that happened at `t`, with the next sequence number.
    pub(super) fn append_at(&mut self, t: u64, event: Event) {
        self.count += 1;
        let sentinel = Sentinel { boot: self.signer.boot, seq: self.count, t, event };
        let line = sentinel.render(&self.signer.key);
        self.lines.extend_from_slice(line.as_bytes());
        // The copy is a help for the agent, on tmpfs; when memory is so short that it fails, the sinks still get it.
        let _ = self.copy.write_all(line.as_bytes());
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

    /// Whether no sink is left that has not sent all.
    pub(super) fn sinks_are_done(&self) -> bool {
        self.console.has_ended() && self.stream.has_ended()
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
    use firstlight_protocol::hex::Secret;
    use firstlight_protocol::sentinel::ExitStatus;

    fn signer() -> Signer {
        Signer { boot: BootId([1; 4]), key: MacKey::new(&Secret([2; 32])) }
    }

    fn log() -> (Log, tempfile::NamedTempFile) {
        let copy = tempfile::NamedTempFile::new().unwrap();
        (Log::new(signer(), copy.reopen().unwrap()), copy)
    }

    #[test]
    fn lines_are_numbered_from_one_and_read_back_one_by_one() {
        let (mut log, _copy) = log();
        log.append_at(7, Event::InitStart);
        log.append(Event::AgentReady);
        let first = log.line_at(0).to_vec();
        let second = log.line_at(first.len()).to_vec();
        let parse = |line: &[u8]| Sentinel::parse(line.trim_ascii_end(), &signer().key).unwrap();
        let start = Sentinel { boot: BootId([1; 4]), seq: 1, t: 7, event: Event::InitStart };
        assert_eq!(parse(&first), start);
        assert_eq!((parse(&second).seq, parse(&second).event), (2, Event::AgentReady));
        assert_eq!(log.line_at(first.len() + second.len()), b"");
    }

    #[test]
    fn the_copy_has_everything() {
        let (mut log, copy) = log();
        log.append_at(7, Event::InitStart);
        log.append(Event::PowerOff);
        assert_eq!(std::fs::read(copy.path()).unwrap(), log.rest_from(0));
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
