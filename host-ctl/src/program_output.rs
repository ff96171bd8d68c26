//! What a VM's program wrote, from the beginning and as it comes: the output log, read across its rotations.

use firstlight_host_ctl::log::{Reader, cri};
use firstlight_host_ctl::vm::VmDir;
use firstlight_host_ctl::vm::vm_dir::name;
use firstlight_protocol::message::output::Stream;

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
}

impl ProgramOutput {
    /// The output of `vm` from the first byte that is kept.
    pub(crate) fn open(vm: &VmDir) -> ProgramOutput {
        let max_files = vm.spec().logs.max_files;
        ProgramOutput { reader: Reader::open(&vm.file(name::OUTPUT_LOG), max_files) }
    }

    /// What has come since the last call, a batch at a time; empty when there is no more yet.
    pub(crate) fn next(&mut self) -> Result<Vec<Part>, Failure> {
        let (mut parts, mut line, mut gathered) = (Vec::new(), Vec::new(), 0);
        while gathered < BATCH && self.reader.next_line(&mut line)? {
            gathered += line.len();
            parts.extend(part(&line));
        }
        Ok(parts)
    }
}

/// A line of the output log. A gap goes to stderr, for it is our word and not the program's.
fn part(line: &[u8]) -> Option<Part> {
    let line = cri::parse(line)?;
    match line.entry {
        cri::Entry::Output { stream, text, ends } => {
            let mut bytes = text.to_vec();
            bytes.extend(ends.then_some(b'\n'));
            Some(Part { stream, time: Some(line.time.to_owned()), bytes })
        }
        cri::Entry::Gap { stream, bytes } => {
            let stream = stream.name();
            output::note(format_args!("warning: {bytes} bytes of {stream} were overwritten before they were read"));
            None
        }
    }
}
