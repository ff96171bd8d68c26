//! The program's output where there is no agent: whatever the console says after INIT-START that is no sentinel.

use firstlight_protocol::message::output::Stream;
use firstlight_protocol::sentinel::Event;

use crate::clock::Stamp;
use crate::log::OutputLog;

/// Moves the console's words into the output log.
pub(super) struct ConsoleOutput {
    log: OutputLog,
    /// Whether init runs: what came before are the kernel's words.
    begun: bool,
    /// Bytes of output heard in this boot.
    heard: u64,
    /// A carriage return whose line feed may follow.
    carriage_return: bool,
    /// What the disk has not taken yet, bounded by [`MAX_WAITING`].
    waiting: Vec<u8>,
}

/// Most bytes that wait for a full disk; what is more is noted as lost.
const MAX_WAITING: usize = 256 * 1024;

impl ConsoleOutput {
    pub(super) fn new(log: OutputLog) -> ConsoleOutput {
        ConsoleOutput { log, begun: false, heard: 0, carriage_return: false, waiting: Vec::new() }
    }

    pub(super) fn hear(&mut self, event: &Event) {
        self.begun |= *event == Event::InitStart;
    }

    /// Writes what the console said; `true` when the log has grown.
    pub(super) fn write(&mut self, bytes: &[u8]) -> bool {
        if !self.begun {
            return false;
        }
        self.take(bytes);
        let length = self.waiting.len() as u64;
        let start = self.heard - length;
        let written = self.log.append(Stamp::now().wall_ns, Stream::Stdout, start, &self.waiting);
        // The log knows how much it took, and skips that when it is told again.
        if written.is_ok() || self.waiting.len() > MAX_WAITING {
            self.waiting.clear();
        }
        written.is_ok()
    }

    /// A terminal writes CR LF for each LF: one CR before an LF is its own.
    fn take(&mut self, bytes: &[u8]) {
        let before = self.waiting.len();
        for byte in bytes {
            if std::mem::take(&mut self.carriage_return) && *byte != b'\n' {
                self.waiting.push(b'\r');
            }
            if *byte == b'\r' {
                self.carriage_return = true;
            } else {
                self.waiting.push(*byte);
            }
        }
        self.heard += (self.waiting.len() - before) as u64;
    }

    /// The logs of this boot were read again. Where some of them had gone, less was heard than was written.
    pub(super) fn recovered(&mut self) {
        self.heard = self.heard.max(self.log.position().of(Stream::Stdout));
        self.begun |= self.heard > 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Reader;
    use crate::vm::spec::LogLimits;

    #[test]
    fn the_console_s_line_ends_become_the_program_s() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output.log");
        let log = OutputLog::open(&path, &dir.path().join("position"), LogLimits::default()).unwrap();
        let mut output = ConsoleOutput::new(log);
        assert!(!output.write(b"kernel: hello\r\n"));
        output.hear(&Event::InitStart);
        for bytes in [&b"one\r"[..], b"\ntwo\r\r\n", b"50%\r100%\r\n"] {
            assert!(output.write(bytes));
        }
        let (mut reader, mut line, mut text) = (Reader::open(&path, 1), Vec::new(), Vec::new());
        while reader.next_line(&mut line).unwrap() {
            let crate::log::cri::Entry::Output { text: bytes, ends, .. } =
                crate::log::cri::parse(&line).unwrap().entry
            else {
                panic!("a gap")
            };
            text.extend_from_slice(bytes);
            text.extend(ends.then_some(b'\n'));
        }
        assert_eq!(text, b"one\ntwo\r\n50%\r100%\n");
    }
}
