//! The system calls that need `unsafe`, each behind a function that does not.

#![allow(unsafe_code, reason = "the crate's one place for system calls without a safe wrapper")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use firstlight_protocol::sentinel::ExitStatus;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::socket::{SockFlag, accept4};
use nix::unistd::{Gid, Uid, chdir, setgroups, setresgid, setresuid, setsid, write};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes the allocator give buffers of this many bytes and more back to the kernel the moment they are freed, so that a
/// burst of commands does not leave its buffers behind as holes in the heap; and keeps it from giving each thread, of which
/// there is one a spawn, a heap of its own. Source: `M_MMAP_THRESHOLD` and `M_ARENA_MAX` in `mallopt(3)`.
pub fn return_buffers_from(bytes: libc::c_int) {
    // SAFETY: the calls change settings of the allocator and nothing else; they are made before there are tasks.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, bytes);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Takes over a descriptor inherited under `number`, and keeps it from every process the agent starts.
///
/// What is inherited has survived an `execve`, so it is not close-on-exec; everything the agent opened or adopted
/// before is. That keeps a wrong number from taking over a descriptor that has an owner.
///
/// # Errors
/// `EBADF` when nothing inherited is open there, or the number is one of the standard streams.
pub fn adopt_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl(F_GETFD) touches no memory and is defined for any number.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if number <= libc::STDERR_FILENO || flags < 0 || flags & libc::FD_CLOEXEC != 0 {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: the number is open, and nothing in this process owns it: see above.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(descriptor)
}

/// A descriptor that tasks wait on. Closing it is the only way to lose it, so readiness never speaks of another.
pub type Watched = AsyncFd<OwnedFd>;

/// Makes a descriptor something to wait on.
///
/// # Errors
/// As `epoll_ctl(2)`.
pub fn watch(descriptor: OwnedFd, interest: Interest) -> io::Result<Watched> {
    // SAFETY: an OwnedFd is open, stays so until it is dropped, and is always the same number.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// A descriptor that tasks wait on, and others have too.
pub type SharedWatched = AsyncFd<Arc<OwnedFd>>;

/// Makes a descriptor that others have too something to wait on.
///
/// # Errors
/// As `epoll_ctl(2)`; `EEXIST` when it is waited on already.
pub fn watch_shared(descriptor: Arc<OwnedFd>, interest: Interest) -> io::Result<SharedWatched> {
    // SAFETY: an OwnedFd is open and always the same number, and stays open until the last Arc of it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, interest) }?)
}

/// Accepts one connection from a listening socket; the connection does not block and is not inherited.
///
/// # Errors
/// As `accept4(2)`.
pub fn accept(listener: &impl AsFd) -> io::Result<OwnedFd> {
    let number = accept4(listener.as_fd().as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    // SAFETY: accept4 has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Bytes that a vsock's peer may send ahead of what was read. `linux/vm_sockets.h`
const SO_VM_SOCKETS_BUFFER_SIZE: libc::c_int = 0;

/// The most that the other may be set to; what is more is cut to it. `linux/vm_sockets.h`
const SO_VM_SOCKETS_BUFFER_MAX_SIZE: libc::c_int = 2;

/// Both options are 64 bits wide.
const VSOCK_WINDOW_LENGTH: libc::socklen_t = 8;

/// Makes the kernel tell the peer of a vsock connection how much it may send: the window grows by a byte, and such a change
/// is said at once. It never shrinks, because what the peer has sent already counts against it.
/// Source: `virtio_transport_notify_buffer_size` in the kernel's `net/vmw_vsock/virtio_transport_common.c`.
///
/// # Errors
/// As `setsockopt(2)`: any other socket has no such option.
pub fn announce_vsock_window(socket: &impl AsFd) -> io::Result<()> {
    let (mut bytes, mut length) = (0_u64, VSOCK_WINDOW_LENGTH);
    let (number, option) = (socket.as_fd().as_raw_fd(), SO_VM_SOCKETS_BUFFER_SIZE);
    // SAFETY: `bytes` and `length` live across the call, which writes no more than `length` says.
    let got =
        unsafe { libc::getsockopt(number, libc::AF_VSOCK, option, (&raw mut bytes).cast(), &raw mut length) };
    Errno::result(got)?;
    set_vsock_window(socket, bytes + 1)
}

/// Lets the peer of a vsock connection send `bytes` ahead of what has been read.
///
/// # Errors
/// As `setsockopt(2)`: any other socket has no such option.
pub fn set_vsock_window(socket: &impl AsFd, bytes: u64) -> io::Result<()> {
    let number = socket.as_fd().as_raw_fd();
    for option in [SO_VM_SOCKETS_BUFFER_MAX_SIZE, SO_VM_SOCKETS_BUFFER_SIZE] {
        let value = (&raw const bytes).cast();
        // SAFETY: the kernel reads the eight bytes of `bytes`, which lives across the call.
        let set = unsafe { libc::setsockopt(number, libc::AF_VSOCK, option, value, VSOCK_WINDOW_LENGTH) };
        Errno::result(set)?;
    }
    Ok(())
}

/// A descriptor that becomes readable when the process ends. Source: `pidfd_open(2)`.
///
/// # Errors
/// As `pidfd_open(2)`.
pub fn open_pidfd(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let number = Errno::result(number)?;
    let number = RawFd::try_from(number).map_err(|_| Errno::EBADF)?;
    // SAFETY: pidfd_open has just made this descriptor for us; it is close-on-exec by definition.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// How the child behind `pidfd` ended. It stays a zombie, which keeps its process group's number from being given to
/// others, until [`reap`].
///
/// # Errors
/// `EAGAIN` while it still runs; otherwise as `waitid(2)`.
pub fn peek_exit(pidfd: &impl AsFd) -> io::Result<ExitStatus> {
    wait(pidfd, libc::WNOWAIT)
}

/// Frees the ended child behind `pidfd`.
///
/// # Errors
/// As [`peek_exit`].
pub fn reap(pidfd: &impl AsFd) -> io::Result<ExitStatus> {
    wait(pidfd, 0)
}

fn wait(pidfd: &impl AsFd, flags: libc::c_int) -> io::Result<ExitStatus> {
    let id = libc::id_t::try_from(pidfd.as_fd().as_raw_fd()).map_err(|_| Errno::EBADF)?;
    // SAFETY: siginfo_t is plain data for which all zeroes is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | flags;
    // SAFETY: `info` lives across the call, which writes nothing else.
    let result = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, flags) };
    Errno::result(result)?;
    // SAFETY: waitid filled `info` in for a child, or left it zero when none has ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Err(Errno::EAGAIN.into());
    }
    // The kernel keeps exit codes and signals in a byte each.
    let status = u8::try_from(status & 0xff).unwrap_or(u8::MAX);
    Ok(if info.si_code == libc::CLD_EXITED { ExitStatus::Code(status) } else { ExitStatus::Signal(status) })
}

/// Sends a signal by number, real-time ones included, to a process or, with a negative `pid`, to a group.
///
/// # Errors
/// As `kill(2)`.
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: the call takes two integers and touches no memory.
    Errno::result(unsafe { libc::kill(pid, signal) })?;
    Ok(())
}

/// Sends a signal that carries a number. Source: `sigqueue(3)`.
///
/// # Errors
/// As `sigqueue(3)`.
pub fn queue_signal(pid: i32, signal: i32, value: u32) -> io::Result<()> {
    let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(value as usize) };
    // SAFETY: the kernel copies the value and never follows it as a pointer.
    Errno::result(unsafe { libc::sigqueue(pid, signal, value) })?;
    Ok(())
}

/// `SIGRTMIN+4`, with which systemd powers off. Source: `systemd(1)`; it counts from the libc's SIGRTMIN.
#[must_use]
pub fn systemd_power_off_signal() -> i32 {
    libc::SIGRTMIN() + 4
}

/// Stops writes to the file system that `directory` is on. Source: `FIFREEZE` in `linux/fs.h`.
///
/// # Errors
/// `EOPNOTSUPP` when the file system cannot be frozen, `EBUSY` when it is.
pub fn freeze(directory: &impl AsFd) -> io::Result<()> {
    const FIFREEZE: libc::Ioctl = 0xc004_5877;
    // SAFETY: the kernel takes the argument as a number and does not look at it.
    Errno::result(unsafe { libc::ioctl(directory.as_fd().as_raw_fd(), FIFREEZE, 0) })?;
    Ok(())
}

/// Lets writes to the file system that `directory` is on go on. Source: `FITHAW` in `linux/fs.h`.
///
/// # Errors
/// `EINVAL` when it is not frozen.
pub fn thaw(directory: &impl AsFd) -> io::Result<()> {
    const FITHAW: libc::Ioctl = 0xc004_5878;
    // SAFETY: the kernel takes the argument as a number and does not look at it.
    Errno::result(unsafe { libc::ioctl(directory.as_fd().as_raw_fd(), FITHAW, 0) })?;
    Ok(())
}

/// Bytes that one call adds to the kernel's entropy at most.
const MAX_ENTROPY: usize = 64;

/// `struct rand_pool_info` in `linux/random.h`, with its buffer.
#[repr(C)]
struct RandPoolInfo {
    entropy_bits: libc::c_int,
    size: libc::c_int,
    buffer: [u8; MAX_ENTROPY],
}

/// Mixes `bytes`, at most 64, into the kernel's entropy through `device`, and credits every bit of them. Source:
/// `RNDADDENTROPY` in `random(4)`.
///
/// # Errors
/// As `ioctl(2)`; `EINVAL` for more bytes.
pub fn add_entropy(device: &impl AsFd, bytes: &[u8]) -> io::Result<()> {
    const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
    let mut info = RandPoolInfo { entropy_bits: 0, size: 0, buffer: [0; MAX_ENTROPY] };
    info.buffer.get_mut(..bytes.len()).ok_or(Errno::EINVAL)?.copy_from_slice(bytes);
    info.size = libc::c_int::try_from(bytes.len()).map_err(|_| Errno::EINVAL)?;
    info.entropy_bits = info.size * 8;
    // SAFETY: the kernel reads the two numbers and as many bytes after them as `size` says, which the buffer holds.
    Errno::result(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), RNDADDENTROPY, &raw const info) })?;
    Ok(())
}

/// Makes the kernel's generator take new keys now. Source: `RNDRESEEDCRNG` in `linux/random.h`.
///
/// # Errors
/// As `ioctl(2)`.
pub fn reseed(device: &impl AsFd) -> io::Result<()> {
    const RNDRESEEDCRNG: libc::Ioctl = 0x5207;
    // SAFETY: the command has no argument.
    Errno::result(unsafe { libc::ioctl(device.as_fd().as_raw_fd(), RNDRESEEDCRNG) })?;
    Ok(())
}

/// Bytes that a pipe holds now. Source: `FIONREAD` in `pipe(7)`.
///
/// # Errors
/// As `ioctl(2)`.
pub fn bytes_in_pipe(pipe: &impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, and `bytes` is one.
    Errno::result(unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Keeps a descriptor from the programs that the agent starts.
///
/// # Errors
/// As `fcntl(2)`.
pub fn close_on_exec(descriptor: &impl AsFd) -> io::Result<()> {
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

/// Sets the size of a terminal. Source: `TIOCSWINSZ` in `ioctl_tty(2)`.
///
/// # Errors
/// As `ioctl(2)`.
pub fn set_window_size(terminal: &impl AsFd, size: &libc::winsize) -> io::Result<()> {
    // SAFETY: TIOCSWINSZ reads one winsize, and `size` is one.
    Errno::result(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, size) })?;
    Ok(())
}

/// Makes the terminal on standard input the controlling one of this session, which has none. Source: `TIOCSCTTY`.
fn take_terminal() -> io::Result<()> {
    // SAFETY: the call takes two integers and touches no memory.
    Errno::result(unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) })?;
    Ok(())
}

/// Has the process end at Ctrl-C and Ctrl-\\ again. A shell that starts the agent in the background has it ignore both, which
/// children would inherit, and a terminal of theirs would not interrupt them. Source: "Asynchronous lists" in POSIX's shell.
fn heed_the_keyboard() -> io::Result<()> {
    for number in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: no handler is installed; the default action is the kernel's own.
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    Ok(())
}

/// Gives the calling thread a descriptor table of its own, with copies of the standard streams and of `kept`. What the thread
/// forks then inherits nothing that another thread has made or is about to make; what it opens is seen by no other.
///
/// Only for a thread that owns no other descriptor, and that drops nowhere but here what it opens from now on. Source:
/// `CLONE_FILES` in `unshare(2)`; a kernel without `close_range(2)` keeps more than it needs to.
///
/// # Errors
/// As `unshare(2)`.
pub fn separate_descriptors(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    unshare(CloneFlags::CLONE_FILES)?;
    let mut kept: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    kept.sort_unstable();
    let mut first = libc::STDERR_FILENO + 1;
    for number in kept {
        if first < number {
            close_copies(first, number - 1);
        }
        first = number + 1;
    }
    close_copies(first, RawFd::MAX);
    Ok(())
}

/// Closes a range of descriptors in a table that only this thread has.
fn close_copies(first: RawFd, last: RawFd) {
    // SAFETY: the call takes three integers. What it closes are copies that belong to nobody: their owners are on other
    // threads, which have a table of their own.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

/// Keeps every descriptor from `first` on from the next program, those included that the agent itself inherited without
/// knowing. Source: `close_range(2)`; a kernel older than it passes on what it passed on before.
fn close_on_exec_from(first: RawFd) {
    // SAFETY: the call takes three integers, and marks descriptors without closing any.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// What a new process does to itself between `fork` and `execve`.
#[derive(Debug)]
pub struct ChildSetup {
    /// `cgroup.procs` of the group it joins, best effort: without it an OOM kill is only a SIGKILL.
    pub cgroup: Option<OwnedFd>,
    /// Who it becomes; `None` leaves the agent's own identity.
    pub identity: Option<(Uid, Gid, Vec<Gid>)>,
    /// Its working directory.
    pub cwd: CString,
    /// Whether its standard input is a terminal for it to take as its own.
    pub terminal: bool,
    /// The soft and hard limit of open files, which the agent had before it raised its own.
    pub open_files: (u64, u64),
}

/// The step at which a process could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnStep {
    /// Becoming the user and the groups.
    Identity,
    /// Entering the working directory.
    Cwd,
    /// Anything else: making the process, or `execve` itself.
    Exec,
}

/// `errno` values end at 4095 (`MAX_ERRNO` in the kernel), and the standard library hands the child's raw error number
/// to the parent unchanged, so the bits above carry the step.
const STEP_SHIFT: i32 = 16;

impl SpawnStep {
    fn mark(self, errno: Errno) -> io::Error {
        let step = match self {
            SpawnStep::Exec => 0,
            SpawnStep::Identity => 1,
            SpawnStep::Cwd => 2,
        };
        io::Error::from_raw_os_error((step << STEP_SHIFT) | errno as i32)
    }

    /// Takes an error of a command prepared by [`prepare_child`] apart.
    #[must_use]
    pub fn unmark(error: io::Error) -> (SpawnStep, io::Error) {
        let Some(raw) = error.raw_os_error() else { return (SpawnStep::Exec, error) };
        let step = match raw >> STEP_SHIFT {
            1 => SpawnStep::Identity,
            2 => SpawnStep::Cwd,
            _ => SpawnStep::Exec,
        };
        (step, io::Error::from_raw_os_error(raw & ((1 << STEP_SHIFT) - 1)))
    }
}

/// Makes `command` lead a session of its own and apply `setup`. Its spawn errors go through [`SpawnStep::unmark`].
pub fn prepare_child(command: &mut Command, setup: ChildSetup) {
    // SAFETY: the closure makes system calls only: it allocates nothing and takes no lock, so it is safe after fork
    // whatever the agent's other threads, which wait for the disk, hold at that moment.
    unsafe { command.pre_exec(move || setup.apply()) };
}

impl ChildSetup {
    fn apply(&self) -> io::Result<()> {
        setsid()?;
        if self.terminal {
            take_terminal()?;
        }
        SigSet::empty().thread_set_mask()?;
        heed_the_keyboard()?;
        close_on_exec_from(libc::STDERR_FILENO + 1);
        if let Some(cgroup) = &self.cgroup {
            let _ = write(cgroup, b"0\n");
        }
        setrlimit(Resource::RLIMIT_NOFILE, self.open_files.0, self.open_files.1)?;
        if let Some((uid, gid, groups)) = &self.identity {
            let identity = |errno| SpawnStep::Identity.mark(errno);
            setgroups(groups).map_err(identity)?;
            setresgid(*gid, *gid, *gid).map_err(identity)?;
            setresuid(*uid, *uid, *uid).map_err(identity)?;
        }
        chdir(self.cwd.as_c_str()).map_err(|errno| SpawnStep::Cwd.mark(errno))
    }
}
