//! The only `unsafe` of this crate: what a child does between `fork(2)` and `execve(2)`, waiting on
//! descriptors, and one instruction of the processor.
#![allow(unsafe_code, reason = "the one module for it; each block says why it is sound")]

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::thread::JoinHandle;

use tokio::io::unix::AsyncFd;

/// The processor's time-stamp counter.
pub(crate) fn time_stamp_counter() -> u64 {
    // SAFETY: every x86-64 processor has it, and Linux lets programs read it unless one asked for the contrary
    // (`PR_SET_TSC`), which we do not.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Something to wait on until `fd` can be read.
pub(crate) fn readiness(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` stands for one descriptor as long as it lives, and closes it only when it is dropped.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Lets the command's child begin a session of its own, so that neither a terminal's signals nor its hang-up reach
/// it.
pub(crate) fn in_own_session(command: &mut Command) {
    // SAFETY: setsid(2) is async-signal-safe, and the closure allocates nothing.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into));
    }
}

/// A child that is forked and waits for leave to execute its program. It ends unexecuted when this is dropped, and
/// when our own process ends, however that comes about.
pub(crate) struct Held {
    pid: u32,
    leave: Option<PipeWriter>,
    /// `Command::spawn` returns when the child has executed, so it has a thread to itself until then.
    spawning: Option<JoinHandle<io::Result<Child>>>,
}

impl Held {
    /// Forks the child.
    pub(crate) fn fork(mut command: Command) -> io::Result<Held> {
        let (mut pid_reader, pid_writer) = io::pipe()?;
        let (leave_reader, leave) = io::pipe()?;
        let fds = (pid_writer.as_raw_fd(), leave_reader.as_raw_fd(), leave.as_raw_fd());
        // SAFETY: the closure makes only async-signal-safe system calls on descriptors that the child has inherited,
        // and allocates nothing.
        unsafe {
            command.pre_exec(move || wait_for_leave(fds.0, fds.1, fds.2));
        }
        let spawning = std::thread::spawn(move || {
            let child = command.spawn();
            // The reader sees the end of the pipe when the fork failed.
            drop::<(PipeWriter, PipeReader)>((pid_writer, leave_reader));
            child
        });
        let mut held = Held { pid: 0, leave: Some(leave), spawning: Some(spawning) };
        let mut pid = [0; 4];
        match pid_reader.read_exact(&mut pid) {
            Ok(()) => {
                held.pid = u32::from_ne_bytes(pid);
                Ok(held)
            }
            Err(error) => Err(held.finish().err().unwrap_or(error)),
        }
    }

    /// The child's pid.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets the child execute its program; returns when it has.
    pub(crate) fn release(mut self) -> io::Result<Child> {
        if let Some(mut leave) = self.leave.take() {
            leave.write_all(&[0])?;
        }
        self.finish()
    }

    fn finish(&mut self) -> io::Result<Child> {
        self.leave = None;
        let thread = self.spawning.take().ok_or(io::ErrorKind::NotFound)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the spawning thread panicked")))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.spawning.is_some() {
            // Without leave the child ends, and `spawn` has reaped it when it returns.
            let _ = self.finish();
        }
    }
}

/// In the child: begins a session, says its pid, and waits for a byte. The end of the pipe instead is a refusal.
fn wait_for_leave(pid_writer: RawFd, leave_reader: RawFd, leave_writer: RawFd) -> io::Result<()> {
    // SAFETY: these are descriptors of pipes that the parent keeps open until the child has executed; the child's
    // copies are its own. The writing end has to go, or the child itself would keep the pipe from ending.
    let (pid_writer, leave_reader) = unsafe {
        rustix::io::close(leave_writer);
        (BorrowedFd::borrow_raw(pid_writer), BorrowedFd::borrow_raw(leave_reader))
    };
    rustix::process::setsid()?;
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    rustix::io::write(pid_writer, &pid.to_ne_bytes())?;
    let mut leave = [0];
    match rustix::io::retry_on_intr(|| rustix::io::read(leave_reader, &mut leave))? {
        0 => Err(io::Error::from(rustix::io::Errno::CANCELED)),
        _ => Ok(()),
    }
}
