//! Waiting: for descriptors, always with a deadline.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;

/// A moment after which a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// `duration` from now.
    pub(crate) fn after(duration: Duration) -> Deadline {
        Deadline(Instant::now() + duration)
    }

    /// `ms` milliseconds from now.
    pub(crate) fn after_ms(ms: u32) -> Deadline {
        Deadline::after(Duration::from_millis(ms.into()))
    }

    /// What is left; zero when it has passed.
    pub(crate) fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    pub(crate) fn passed(self) -> bool {
        self.remaining().is_zero()
    }
}

/// Waits until one of `fds` is ready or the deadline has passed; without a deadline, for as long as it takes.
///
/// # Errors
/// Those of `ppoll(2)` other than `EINTR`.
pub(crate) fn poll(fds: &mut [PollFd<'_>], deadline: Option<Deadline>) -> nix::Result<()> {
    loop {
        let timeout = deadline.map(|deadline| TimeSpec::from_duration(deadline.remaining()));
        match ppoll(fds, timeout, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// An entry for [`poll`] that waits for something to read.
pub(crate) fn readable(fd: BorrowedFd<'_>) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::POLLIN)
}

/// Whether [`poll`] found the entry ready, hung up or broken.
pub(crate) fn is_ready(fd: &PollFd<'_>) -> bool {
    fd.any().unwrap_or(true)
}

/// A flag that can be polled: raised by any thread, lowered by the one that waits on it.
#[derive(Debug)]
pub(crate) struct Flag(EventFd);

impl Flag {
    /// A lowered flag.
    ///
    /// # Errors
    /// Those of `eventfd(2)`.
    pub(crate) fn new() -> nix::Result<Flag> {
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map(Flag)
    }

    /// Raises the flag. It stays up until it is lowered, however often it is raised.
    pub(crate) fn raise(&self) {
        // EAGAIN means that the counter is full, so the flag is up already. There is no other error.
        let _ = self.0.write(1);
    }

    /// Lowers the flag.
    pub(crate) fn lower(&self) {
        // EAGAIN means that it is down already. There is no other error.
        let _ = self.0.read();
    }
}

impl AsFd for Flag {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A counting semaphore: whoever waits takes one of what was posted, or sleeps until there is one. Source: `EFD_SEMAPHORE` of
/// `eventfd(2)`. It costs a boot less than a condition variable, which needs a part of the kernel that nothing else here does.
#[derive(Debug)]
pub(crate) struct Semaphore(EventFd);

impl Semaphore {
    /// A semaphore at zero.
    ///
    /// # Errors
    /// Those of `eventfd(2)`.
    pub(crate) fn new() -> nix::Result<Semaphore> {
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_SEMAPHORE).map(Semaphore)
    }

    /// Lets `count` of those who wait go on, or who will.
    pub(crate) fn post(&self, count: usize) {
        // It would have to be 2^64 to fail.
        let _ = self.0.write(count as u64);
    }

    /// Takes one of what was posted.
    pub(crate) fn wait(&self) {
        // There is no other error.
        while self.0.read() == Err(Errno::EINTR) {}
    }
}

/// Locks a mutex. A panic ends this process, so no lock is ever seen poisoned by a thread that goes on.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Exponential backoff: starts fast, doubles, stays at its cap.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    next: Duration,
    cap: Duration,
}

impl Backoff {
    const START: Duration = Duration::from_millis(5);

    /// Starts at 5 ms and doubles up to `cap`.
    pub(crate) fn new(cap: Duration) -> Backoff {
        Backoff { next: Backoff::START, cap }
    }

    /// How long to wait before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.cap);
        now
    }

    /// Starts anew, after an attempt that went well.
    pub(crate) fn reset(&mut self) {
        self.next = Backoff::START;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_from_5_ms_to_its_cap_and_starts_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(30));
        let waits: Vec<u128> = (0..5).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits, [5, 10, 20, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 5);
    }

    #[test]
    fn a_raised_flag_is_seen_once_however_often_it_was_raised() {
        let flag = Flag::new().unwrap();
        flag.raise();
        flag.raise();
        let look = || {
            let mut fds = [readable(flag.as_fd())];
            poll(&mut fds, Some(Deadline::after_ms(0))).unwrap();
            is_ready(&fds[0])
        };
        assert!(look());
        flag.lower();
        assert!(!look());
    }

    #[test]
    fn what_was_posted_to_a_semaphore_is_taken_one_by_one() {
        let semaphore = Semaphore::new().unwrap();
        let look = || {
            let mut fds = [readable(semaphore.0.as_fd())];
            poll(&mut fds, Some(Deadline::after_ms(0))).unwrap();
            is_ready(&fds[0])
        };
        assert!(!look());
        semaphore.post(2);
        semaphore.wait();
        assert!(look(), "one is left");
        semaphore.wait();
        assert!(!look());
    }
}
