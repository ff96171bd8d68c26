//! Init's part in the program's output: the pipes and memfds that outlive an agent.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use firstlight_protocol::agent_config::{OutputDescriptors, ProgramOutput};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Both streams of a program.
pub struct ProgramPipes {
    stdout: Kept,
    stderr: Kept,
}

/// What init keeps of one stream.
struct Kept {
    pipe: PipeReader,
    log: OwnedFd,
}

impl ProgramPipes {
    /// The pipes, and the program's ends of them.
    pub fn new() -> (ProgramPipes, PipeWriter, PipeWriter) {
        let (stdout, stdout_writer) = Kept::new();
        let (stderr, stderr_writer) = Kept::new();
        (ProgramPipes { stdout, stderr }, stdout_writer, stderr_writer)
    }

    pub fn descriptors(&self) -> ProgramOutput {
        ProgramOutput { stdout: self.stdout.descriptors(), stderr: self.stderr.descriptors() }
    }

    /// What an agent inherits.
    pub(super) fn inherited(&self) -> [BorrowedFd<'_>; 4] {
        [self.stdout.pipe.as_fd(), self.stdout.log.as_fd(), self.stderr.pipe.as_fd(), self.stderr.log.as_fd()]
    }

    /// Bytes of memory that the standard output's log takes.
    pub fn memory(&self) -> u64 {
        let status = nix::sys::stat::fstat(&self.stdout.log).unwrap();
        u64::try_from(status.st_blocks).unwrap() * 512
    }
}

impl Kept {
    fn new() -> (Kept, PipeWriter) {
        let (pipe, writer) = std::io::pipe().unwrap();
        let log = memfd_create(c"program-output", MFdFlags::MFD_CLOEXEC).unwrap();
        (Kept { pipe, log }, writer)
    }

    fn descriptors(&self) -> OutputDescriptors {
        OutputDescriptors { pipe: self.pipe.as_raw_fd(), log: self.log.as_raw_fd() }
    }
}
