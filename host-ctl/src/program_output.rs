//! What a VM's program wrote, from the beginning and as it comes.
//!
//! With an agent it is in the output log, stream by stream. Without one it went to the console, so it is what is left of
//! the serial log once our own authentic lines are taken out.

use firstlight_host_ctl::log::{Reader, cri};
use firstlight_host_ctl::vm::VmDir;
use firstlight_host_ctl::vm::vm_dir::name;
use firstlight_protocol::message::output::Stream;
use firstlight_protocol::sentinel::{MacKey, Piece, Scanner};

use crate::output::{self, Failure};

/// Bytes that are gathered before they are given out: a large output is not written line by line.
const BATCH: usize = 64 * 1024;

/// Bytes of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) stream: Stream,
    /// When the host received them, in RFC 3339; a console does not say.
    pub(crate) time: Option<String>,
    /// At most one line, with its end if it has come.
    pub(crate) bytes: Vec<u8>,
}

/// Follows a VM's program.
pub(crate) struct ProgramOutput {
    reader: Reader,
    console: Option<Scanner>,
}

impl ProgramOutput {
    /// The output of `vm` from the first byte that is kept.
    pub(crate) fn open(vm: &VmDir) -> Result<ProgramOutput, Failure> {
        let max_files = vm.spec().logs.max_files;
        let (file, console) = if vm.spec().skip_guest_agent {
            (name::SERIAL_LOG, Some(Scanner::new(MacKey::new(&vm.boot_spec()?.mac_key))))
        } else {
            (name::OUTPUT_LOG, None)
        };
        Ok(ProgramOutput { reader: Reader::open(&vm.file(file), max_files), console })
    }

    /// What has come since the last call, a batch at a time; empty when there is no more yet.
    pub(crate) fn next(&mut self) -> Result<Vec<Part>, Failure> {
        let (mut parts, mut line, mut gathered) = (Vec::new(), Vec::new(), 0);
        while gathered < BATCH && self.reader.next_line(&mut line)? {
            gathered += line.len();
            match &mut self.console {
                None => parts.extend(logged(&line)),
                Some(scanner) => {
                    // The console's driver ends lines with both.
                    line.pop_if(|last| *last == b'\r');
                    line.push(b'\n');
                    scanner.push(&line, |piece| parts.extend(printed(piece)));
                }
            }
        }
        Ok(parts)
    }

    /// What is left when no more can come: a console's last line may have no end.
    pub(crate) fn finish(&mut self) -> Vec<Part> {
        let mut parts = Vec::new();
        if let Some(scanner) = &mut self.console {
            scanner.push(self.reader.unfinished(), |piece| parts.extend(printed(piece)));
            scanner.finish(|piece| parts.extend(printed(piece)));
        }
        parts
    }
}

/// A line of the output log. A gap goes to stderr, for it is our word and not the program's.
fn logged(line: &[u8]) -> Option<Part> {
    let line = cri::parse(line)?;
    match line.entry {
        cri::Entry::Output { stream, text, ends } => {
            let mut bytes = text.to_vec();
            bytes.extend(ends.then_some(b'\n'));
            Some(Part { stream, time: Some(line.time.to_owned()), bytes })
        }
        cri::Entry::Gap { stream, bytes } => {
            output::note(format_args!(
                "warning: {bytes} bytes of {} were overwritten before they were read",
                stream.name()
            ));
            None
        }
    }
}

fn printed(piece: Piece<'_>) -> Option<Part> {
    match piece {
        Piece::Output(bytes) => Some(Part { stream: Stream::Stdout, time: None, bytes: bytes.to_vec() }),
        Piece::Sentinel(_) => None,
    }
}
