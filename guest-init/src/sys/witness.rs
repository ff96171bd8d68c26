//! What no process can say of itself: that its `execve` succeeded.
//!
//! A witness is a child that waits at a close-on-exec pipe. Its end is the word that the parent's `execve` succeeded, and
//! then the witness writes what it was given; a byte means that it failed, and then it is silent. Like every child of a
//! process with threads it calls async-signal-safe functions only.

use std::ffi::{CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2, write};

use super::spawn::fork_into;

/// A child that waits for this process to become another program.
#[derive(Debug)]
pub(crate) struct Witness {
    pid: Pid,
    verdict: OwnedFd,
}

impl Witness {
    /// Posts a witness who will write `line` to each of `sinks`.
    ///
    /// # Errors
    /// Those of `pipe2(2)` and `clone(2)`.
    pub(crate) fn post(line: &[u8], sinks: &[BorrowedFd<'_>]) -> nix::Result<Witness> {
        let (outcome, verdict) = pipe2(OFlag::O_CLOEXEC)?;
        match fork_into(None)? {
            0 => testify(line, sinks, outcome.as_raw_fd(), verdict.as_raw_fd()),
            pid => Ok(Witness { pid: Pid::from_raw(pid), verdict }),
        }
    }

    /// Sends it away: the `execve` failed. Returns when it has gone.
    pub(crate) fn dismiss(self) {
        // It reads or is gone already.
        let _ = write(&self.verdict, b"x");
        let _ = nix::sys::wait::waitpid(self.pid, None);
    }
}

/// The witness's life.
fn testify(line: &[u8], sinks: &[BorrowedFd<'_>], outcome: i32, verdict: i32) -> ! {
    let mut byte = 0_u8;
    // SAFETY: close takes an integer. Our copy of the other end would keep the pipe from ending.
    unsafe { libc::close(verdict) };
    let end = loop {
        // SAFETY: the pointer is to a live byte and the length is 1.
        let count = unsafe { libc::read(outcome, (&raw mut byte).cast(), 1) };
        if count >= 0 || Errno::last() != Errno::EINTR {
            break count;
        }
    };
    if end == 0 {
        for sink in sinks {
            // SAFETY: the pointer and the length are those of a live slice. Nobody is left to hear of a failure.
            unsafe { libc::write(sink.as_raw_fd(), line.as_ptr().cast(), line.len()) };
        }
    }
    // SAFETY: _exit takes an integer.
    unsafe { libc::_exit(0) }
}

/// Becomes the program at `path`: signals as at a process's birth, descriptors that are not close-on-exec kept. Returns
/// only when it fails, with all signals blocked again.
pub(crate) fn become_program(path: &CString, argv: &[CString], env: &[CString]) -> Errno {
    let pointers = |strings: &[CString]| -> Vec<*const c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    let none = nix::sys::signal::SigSet::empty();
    // SAFETY: this program ignores SIGPIPE; this sets what every program expects.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if let Err(errno) = none.thread_set_mask() {
        return errno;
    }
    // SAFETY: path and arrays are NUL-terminated and live until the call returns, if it does.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    let errno = Errno::last();
    // All threads had them blocked; a failure leaves the signals to their default, which does nothing to PID 1.
    let _ = nix::sys::signal::SigSet::all().thread_block();
    errno
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn written(end: impl FnOnce(Witness)) -> String {
        let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let witness = Witness::post(b"line\n", &[write.as_fd()]).unwrap();
        drop(write);
        end(witness);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_witness_speaks_when_its_parent_s_end_of_the_pipe_goes() {
        // What execve does to a close-on-exec descriptor.
        assert_eq!(written(|Witness { verdict, .. }| drop(verdict)), "line\n");
    }

    #[test]
    fn a_dismissed_witness_says_nothing() {
        assert_eq!(written(Witness::dismiss), "");
    }

    #[test]
    fn a_failed_exec_returns_its_errno() {
        let missing = CString::from(c"/no/such/program");
        assert_eq!(become_program(&missing, std::slice::from_ref(&missing), &[]), Errno::ENOENT);
        nix::sys::signal::SigSet::empty().thread_set_mask().unwrap();
    }
}
