//! What a signal to PID 1 asks for. Pure but for the descriptor it is read from.

use std::os::fd::{AsFd, BorrowedFd};

use nix::libc::{self, c_int};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// A signal, as the supervisor understands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// A child has ended.
    Reap,
    /// End the VM, with this grace in milliseconds or the boot spec's.
    Stop { grace_ms: Option<u32> },
    /// Pass the signal on to the program.
    Forward(c_int),
}

/// Signals to this process, as a descriptor. They are blocked in every thread, so nothing else takes them.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

impl Signals {
    pub(super) fn open() -> nix::Result<Signals> {
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        SignalFd::with_flags(&SigSet::all(), flags).map(Signals)
    }

    /// The next request, or `None` when no signal has come.
    pub(super) fn next(&self) -> Option<Request> {
        let signal = self.0.read_signal().ok().flatten()?;
        let number = c_int::try_from(signal.ssi_signo).unwrap_or(0);
        Some(understand(number, signal.ssi_code, signal.ssi_int))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// `SIGTERM` is how the agent asks, with the grace in milliseconds as the value of `sigqueue(3)`; `SIGINT` is the
/// kernel's for Ctrl-Alt-Del, and `SIGPWR` that of a failing power supply.
fn understand(number: c_int, code: c_int, value: c_int) -> Request {
    match number {
        libc::SIGCHLD => Request::Reap,
        libc::SIGTERM if code == libc::SI_QUEUE => {
            Request::Stop { grace_ms: u32::try_from(value).ok().filter(|grace| *grace > 0) }
        }
        libc::SIGTERM | libc::SIGINT | libc::SIGPWR => Request::Stop { grace_ms: None },
        other => Request::Forward(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queued_sigterm_carries_its_grace_and_zero_or_none_is_the_specs() {
        assert_eq!(understand(libc::SIGTERM, libc::SI_QUEUE, 1500), Request::Stop { grace_ms: Some(1500) });
        assert_eq!(understand(libc::SIGTERM, libc::SI_QUEUE, 0), Request::Stop { grace_ms: None });
        assert_eq!(understand(libc::SIGTERM, libc::SI_USER, 1500), Request::Stop { grace_ms: None });
    }

    #[test]
    fn signals_that_mean_nothing_to_init_are_the_programs() {
        assert_eq!(understand(libc::SIGHUP, libc::SI_USER, 0), Request::Forward(libc::SIGHUP));
        assert_eq!(understand(40, libc::SI_USER, 0), Request::Forward(40));
    }
}
