//! The only unsafe code of this crate: system calls that no safe wrapper offers, and what a child does between
//! `fork` and `exec`.

#![allow(unsafe_code, reason = "the one module that may; every block says why it is sound")]

mod crash;
mod entry;
mod spawn;
mod thread;
mod witness;

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use firstlight_protocol::sentinel::ExitStatus;
use nix::NixPath as _;
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::unistd::Pid;

pub(crate) use crash::power_off_on_crash;
pub(crate) use spawn::{Child, Credentials, Executable, Launch, Limit, Step, fork_exec};
pub(crate) use thread::spawn;
pub(crate) use witness::{Witness, become_program};

/// Gets the process ready before the first thread is started: every signal is blocked, so that the signal
/// descriptor is the only one to receive them, and all threads share one heap.
///
/// # Errors
/// Those of `sigprocmask(2)`.
pub(crate) fn prepare_process() -> nix::Result<()> {
    // A heap of its own for each of a dozen short-lived threads would cost more than all they allocate.
    // SAFETY: mallopt takes two integers and keeps no reference.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    SigSet::all().thread_block()
}

/// Sends signal `number` to one process, or to a process group when `pid` is negative, or to every process but
/// this one when it is -1. Real-time signals included. Source: `kill(2)`.
///
/// # Errors
/// Those of `kill(2)`; `ESRCH` when nobody is left.
pub(crate) fn kill(pid: i32, number: i32) -> nix::Result<()> {
    // SAFETY: kill takes two integers and keeps no reference.
    Errno::result(unsafe { libc::kill(pid, number) }).map(drop)
}

/// The calling thread's id, as [`set_nice`] takes it.
pub(crate) fn thread_id() -> Pid {
    nix::unistd::gettid()
}

/// Sets the niceness of one thread, from -20 (most favoured) to 19. Source: `setpriority(2)`, "C library/kernel
/// differences": it is the thread's alone.
///
/// # Errors
/// Those of `setpriority(2)`; `ESRCH` when the thread is gone.
pub(crate) fn set_nice(thread: Pid, nice: i32) -> nix::Result<()> {
    let thread = libc::id_t::try_from(thread.as_raw()).map_err(|_| Errno::ESRCH)?;
    // SAFETY: setpriority takes three integers and keeps no reference.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, thread, nice) }).map(drop)
}

/// Reaps one child that has ended: its pid and how it ended. `None` when no child has.
pub(crate) fn reap() -> Option<(Pid, ExitStatus)> {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer, which is all waitpid writes to.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then(|| (Pid::from_raw(pid), exit_status(status)))
}

/// Reads a wait status. Source: `wait(2)`.
fn exit_status(status: i32) -> ExitStatus {
    let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    if libc::WIFSIGNALED(status) {
        ExitStatus::Signal(byte(libc::WTERMSIG(status)))
    } else {
        ExitStatus::Code(byte(libc::WEXITSTATUS(status)))
    }
}

/// Has this process run only when nothing else wants the processor or the disk, and end first when memory runs out.
/// Source: `sched(7)`, `ioprio_set(2)`, `proc_pid_oom_score_adj(5)`.
///
/// # Errors
/// Those of the calls; each is allowed to every process.
pub(crate) fn run_when_idle() -> nix::Result<()> {
    /// Source: `linux/ioprio.h`, which the C library does not bring.
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_IDLE: libc::c_int = 3 << 13;
    const LOWEST_NICE: libc::c_int = 19;
    // SAFETY: an all-zero sched_param is valid, and its priority the only one SCHED_IDLE has.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live sched_param, which the call only reads.
    Errno::result(unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) })?;
    // Where something makes it an ordinary process again, it is still the least of them.
    // SAFETY: setpriority takes integers.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, LOWEST_NICE) })?;
    // SAFETY: ioprio_set takes integers.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_IDLE) })?;
    std::fs::write("/proc/self/oom_score_adj", "1000").map_err(|error| crate::error::io_errno(&error))
}

/// Moves the mount at `from` to the open directory `to`, wherever that is. Source: `move_mount(2)`, Linux 5.2.
///
/// # Errors
/// Those of `move_mount(2)`.
pub(crate) fn move_mount(from: &str, to: BorrowedFd<'_>) -> nix::Result<()> {
    /// The second path is empty and its descriptor the place itself. Source: `linux/mount.h`.
    const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
    let (here, empty): (_, &CStr) = (libc::AT_FDCWD, c"");
    from.with_nix_path(|from| {
        let (from, to) = (from.as_ptr(), to.as_raw_fd());
        // SAFETY: both paths are NUL-terminated strings that outlive the call, and the rest are integers.
        Errno::result(unsafe {
            libc::syscall(libc::SYS_move_mount, here, from, to, empty.as_ptr(), MOVE_MOUNT_T_EMPTY_PATH)
        })
    })?
    .map(drop)
}

/// A descriptor that becomes readable when process `pid` ends. Source: `pidfd_open(2)`.
///
/// # Errors
/// `ESRCH` when it is gone already.
pub(crate) fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: the system call takes two integers; descriptors it makes are close-on-exec.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Stops swapping to `path`. Source: `swapoff(2)`.
///
/// # Errors
/// Those of `swapoff(2)`.
pub(crate) fn swapoff(path: &CStr) -> nix::Result<()> {
    // SAFETY: the pointer is to a NUL-terminated string that outlives the call.
    Errno::result(unsafe { libc::swapoff(path.as_ptr()) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_are_read_as_wait_2_has_them() {
        assert_eq!(exit_status(3 << 8), ExitStatus::Code(3));
        assert_eq!(exit_status(9), ExitStatus::Signal(9));
        assert_eq!(exit_status(0x80 | 11), ExitStatus::Signal(11), "with a core dump");
        assert_eq!(exit_status(40), ExitStatus::Signal(40), "a real-time signal");
    }
}
