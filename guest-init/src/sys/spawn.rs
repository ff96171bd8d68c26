//! `fork` and `exec`, with everything in between decided before the fork.
//!
//! The child of a process with threads may call async-signal-safe functions only, so all it does is walk through
//! prepared data by raw system calls. What fails there comes back through a close-on-exec pipe as a [`Step`] and an
//! errno; the pipe's end without either means that `execve` succeeded.

use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2, read};

/// What to execute, and as whom.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) executable: Executable<'a>,
    pub(crate) argv: Vec<CString>,
    pub(crate) env: Vec<CString>,
    /// Standard input, output and error.
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// Descriptors to keep open, under their own numbers.
    pub(crate) inherit: Vec<BorrowedFd<'a>>,
    /// The directory of the cgroup to be born in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Make standard input the controlling terminal.
    pub(crate) controlling_terminal: bool,
    pub(crate) cwd: CString,
    pub(crate) limits: Vec<Limit>,
    pub(crate) credentials: Option<Credentials>,
    /// Capabilities to remove from the bounding set, by number.
    pub(crate) drop_capabilities: Vec<u8>,
    pub(crate) no_new_privileges: bool,
}

/// The file to execute.
#[derive(Debug)]
pub(crate) enum Executable<'a> {
    /// By path.
    Path(CString),
    /// By an open descriptor, whatever has become of its path.
    Descriptor(BorrowedFd<'a>),
}

/// One resource limit, by the numbers of `setrlimit(2)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) resource: u32,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// Who a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
}

/// A child between its fork and the outcome of its `execve`.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its pid, which is its session and process group as well.
    pub(crate) pid: Pid,
    /// Becomes readable when `execve` has succeeded or failed; see [`Child::outcome`].
    pub(crate) outcome: OwnedFd,
}

macro_rules! steps {
    ($($step:ident = $words:literal,)*) => {
        /// What a child was doing when it failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Step { $($step,)* }

        impl Step {
            const ALL: &'static [Step] = &[$(Step::$step,)*];

            /// The step in words.
            pub(crate) fn words(self) -> &'static str {
                match self { $(Step::$step => $words,)* }
            }
        }
    };
}

steps! {
    Session = "start a session",
    Descriptors = "set up descriptors",
    Limits = "set resource limits",
    WorkingDirectory = "enter the working directory",
    Capabilities = "drop capabilities",
    Groups = "set supplementary groups",
    Group = "set the group",
    User = "set the user",
    NoNewPrivileges = "set no_new_privs",
    Signals = "unblock signals",
    Execute = "execute",
}

impl Child {
    /// How `execve` went: the pid, or what failed. `EAGAIN` before [`Child::outcome`] is readable.
    pub(crate) fn outcome(&self) -> Result<Pid, (Step, Errno)> {
        let mut report = [0; REPORT_LEN];
        match read(&self.outcome, &mut report) {
            Ok(0) => Ok(self.pid),
            Ok(_) => {
                let [step, errno @ ..] = report;
                let step = Step::ALL.get(usize::from(step)).copied().unwrap_or(Step::Execute);
                Err((step, Errno::from_raw(i32::from_ne_bytes(errno))))
            }
            Err(errno) => Err((Step::Execute, errno)),
        }
    }
}

/// A step's number and an errno: far less than `PIPE_BUF`, so written at once or not at all.
const REPORT_LEN: usize = 5;

/// Starts a process as `launch` says.
///
/// # Errors
/// Those of `pipe2(2)` and `clone(2)`. What fails in the child comes through [`Child::outcome`].
pub(crate) fn fork_exec(launch: &Launch<'_>) -> nix::Result<Child> {
    let (outcome, report) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let prepared = Prepared::new(launch, report.as_raw_fd());
    match fork_into(launch.cgroup)? {
        0 => prepared.run(),
        pid => Ok(Child { pid: Pid::from_raw(pid), outcome }),
    }
}

/// Source: `linux/sched.h`; the C library's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `fork(2)` into a cgroup; gives 0 to the child. A process that is born there spares the kernel the wait for all
/// processors that moving it there takes, several milliseconds. Source: `clone(2)`.
pub(super) fn fork_into(cgroup: Option<BorrowedFd<'_>>) -> nix::Result<i32> {
    // SAFETY: an all-zero clone_args is valid: no flags, no signal, the parent's stack.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    if let Some(cgroup) = cgroup {
        arguments.flags = CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: the pointer and the size are those of a live clone_args. Without CLONE_VM the child has its own copy
    // of all memory; it calls async-signal-safe functions only, allocates nothing and never returns.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    let pid = Errno::result(pid)?;
    i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)
}

/// A [`Launch`] with the pointer arrays `execve` wants.
struct Prepared<'a> {
    launch: &'a Launch<'a>,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    report: RawFd,
}

type Outcome = Result<(), (Step, Errno)>;

impl<'a> Prepared<'a> {
    fn new(launch: &'a Launch<'a>, report: RawFd) -> Prepared<'a> {
        let pointers = |strings: &[CString]| -> Vec<*const c_char> {
            strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
        };
        Prepared { launch, argv: pointers(&launch.argv), env: pointers(&launch.env), report }
    }

    /// The child's life: from here to `execve`, or to a report and `_exit`.
    fn run(&self) -> ! {
        let failure = self.become_program().err().unwrap_or((Step::Execute, Errno::EIO));
        let [a, b, c, d] = (failure.1 as i32).to_ne_bytes();
        let report: [u8; REPORT_LEN] = [failure.0 as u8, a, b, c, d];
        // SAFETY: the pointer and the length are those of a live array; _exit takes an integer.
        unsafe {
            libc::write(self.report, report.as_ptr().cast(), report.len());
            libc::_exit(127)
        }
    }

    fn become_program(&self) -> Outcome {
        // SAFETY: setsid takes nothing.
        check(Step::Session, unsafe { libc::setsid() }.into())?;
        self.set_descriptors()?;
        self.set_limits()?;
        // SAFETY: the pointer is to a NUL-terminated string of the parent's, copied by the fork.
        check(Step::WorkingDirectory, unsafe { libc::chdir(self.launch.cwd.as_ptr()) }.into())?;
        self.set_identity()?;
        reset_signals()?;
        self.execute()
    }

    fn set_descriptors(&self) -> Outcome {
        for (number, fd) in (0..).zip(&self.launch.stdio) {
            // SAFETY: dup2 takes two integers. Init keeps its own 0, 1 and 2 open, so `fd` is none of them unless
            // it is this one.
            check(Step::Descriptors, unsafe { libc::dup2(fd.as_raw_fd(), number) }.into())?;
        }
        for fd in &self.launch.inherit {
            // SAFETY: fcntl with F_SETFD takes integers.
            let result = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) };
            check(Step::Descriptors, result.into())?;
        }
        if self.launch.controlling_terminal {
            // SAFETY: TIOCSCTTY takes an integer.
            let result = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) };
            check(Step::Descriptors, result.into())?;
        }
        Ok(())
    }

    fn set_limits(&self) -> Outcome {
        for limit in &self.launch.limits {
            let value = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
            // SAFETY: the pointer is to a live rlimit, which setrlimit only reads.
            let result = unsafe { libc::setrlimit(limit.resource, &raw const value) };
            check(Step::Limits, result.into())?;
        }
        Ok(())
    }

    /// Capabilities first, since dropping them needs one; then groups before the user, for the same reason.
    /// By raw system calls: the C library's wrappers would signal threads that the child does not have.
    fn set_identity(&self) -> Outcome {
        for capability in &self.launch.drop_capabilities {
            // SAFETY: prctl with PR_CAPBSET_DROP takes integers.
            let result =
                unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(*capability), 0, 0, 0) };
            check(Step::Capabilities, result.into())?;
        }
        if let Some(Credentials { uid, gid, groups }) = &self.launch.credentials {
            // SAFETY: the pointer and the length are those of a live slice of group ids.
            check(Step::Groups, unsafe {
                libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr())
            })?;
            // SAFETY: the system call takes an integer.
            check(Step::Group, unsafe { libc::syscall(libc::SYS_setgid, *gid) })?;
            // SAFETY: the system call takes an integer.
            check(Step::User, unsafe { libc::syscall(libc::SYS_setuid, *uid) })?;
        }
        if self.launch.no_new_privileges {
            // SAFETY: prctl with PR_SET_NO_NEW_PRIVS takes integers.
            let result = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            check(Step::NoNewPrivileges, result.into())?;
        }
        Ok(())
    }

    fn execute(&self) -> Outcome {
        let (argv, env) = (self.argv.as_ptr(), self.env.as_ptr());
        let result = match &self.launch.executable {
            // SAFETY: path and arrays are NUL-terminated and live in the child's copy of the parent's memory.
            Executable::Path(path) => unsafe { libc::execve(path.as_ptr(), argv, env) }.into(),
            Executable::Descriptor(fd) => {
                let empty: &CStr = c"";
                // SAFETY: as above.
                unsafe {
                    libc::syscall(
                        libc::SYS_execveat,
                        fd.as_raw_fd(),
                        empty.as_ptr(),
                        argv,
                        env,
                        libc::AT_EMPTY_PATH,
                    )
                }
            }
        };
        check(Step::Execute, result)
    }
}

/// Gives the child what every program expects: nothing blocked, and SIGPIPE, which this program ignores, ending
/// those who write into the void.
fn reset_signals() -> Outcome {
    // SAFETY: an all-zero sigset_t is a valid one, and sigemptyset makes it the empty set.
    let result = unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut())
    };
    check(Step::Signals, result.into())
}

fn check(step: Step, result: i64) -> Outcome {
    if result < 0 { Err((step, Errno::last())) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    use crate::wait::{poll, readable};

    fn launch<'a>(program: &CStr, arguments: &[&CStr], null: &'a File, output: BorrowedFd<'a>) -> Launch<'a> {
        let argv = [program].iter().chain(arguments).map(|&argument| argument.to_owned()).collect();
        Launch {
            executable: Executable::Path(program.to_owned()),
            argv,
            env: vec![c"GREETING=hi".to_owned()],
            stdio: [null.as_fd(), output, null.as_fd()],
            inherit: Vec::new(),
            cgroup: None,
            controlling_terminal: false,
            cwd: c"/tmp".to_owned(),
            limits: vec![Limit { resource: libc::RLIMIT_NOFILE, soft: 77, hard: 77 }],
            credentials: None,
            drop_capabilities: Vec::new(),
            no_new_privileges: true,
        }
    }

    fn outcome(child: &Child) -> Result<Pid, (Step, Errno)> {
        poll(&mut [readable(child.outcome.as_fd())], None).unwrap();
        child.outcome()
    }

    fn null() -> File {
        File::options().read(true).write(true).open("/dev/null").unwrap()
    }

    #[test]
    fn a_program_runs_with_what_it_was_given() {
        let null = null();
        let (read, write) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let script = c"echo $GREETING $(pwd) $(ulimit -n)";
        let launch = launch(c"/bin/sh", &[c"-c", script], &null, write.as_fd());
        let child = fork_exec(&launch).unwrap();
        drop(launch);
        drop(write);
        let pid = outcome(&child).unwrap();
        let mut output = String::new();
        File::from(read).read_to_string(&mut output).unwrap();
        assert_eq!(output, "hi /tmp 77\n");
        nix::sys::wait::waitpid(pid, None).unwrap();
    }

    #[test]
    fn a_missing_program_comes_back_as_the_step_and_the_errno() {
        let null = null();
        let launch = launch(c"/no/such/program", &[], &null, null.as_fd());
        let child = fork_exec(&launch).unwrap();
        let pid = child.pid;
        assert_eq!(outcome(&child), Err((Step::Execute, Errno::ENOENT)));
        nix::sys::wait::waitpid(pid, None).unwrap();
    }

    #[test]
    fn a_missing_working_directory_is_told_from_a_missing_program() {
        let null = null();
        let mut launch = launch(c"/bin/true", &[], &null, null.as_fd());
        launch.cwd = c"/no/such/directory".to_owned();
        let child = fork_exec(&launch).unwrap();
        let pid = child.pid;
        assert_eq!(outcome(&child), Err((Step::WorkingDirectory, Errno::ENOENT)));
        nix::sys::wait::waitpid(pid, None).unwrap();
    }
}
