//! The program: from its part of the boot spec to a process, without a shell.

mod search;
mod users;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;

use firstlight_protocol::boot_spec::{Program, Resource, Rlimit};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::cgroup::{Cgroup, Cgroups};
use super::in_root::{open_in_root, root_of_process};
use crate::error::{CallError, Cause};
use crate::sys::{Child, Credentials, Executable, Launch, Limit, Step, fork_exec};
pub(crate) use search::{DEFAULT_PATH, c_strings, find};
use users::UserError;

/// Bytes of `/etc/passwd` and `/etc/group` that are read.
const MAX_FILE: u64 = 4 << 20;

/// The program could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("not to be executed from any directory of PATH: {}", errno.desc())]
    NotFound { argv0: String, errno: Errno },
    #[error(transparent)]
    User(#[from] UserError),
    #[error("unknown capability {name:?}; they are named like CAP_NET_ADMIN")]
    Capability { name: String },
    #[error("an argument or variable contains NUL")]
    Nul,
    #[error("{}: {}{hint}", step.words(), errno.desc())]
    Step { step: Step, path: Option<String>, errno: Errno, hint: &'static str },
}

impl Cause for ProgramError {
    fn errno(&self) -> Option<Errno> {
        match self {
            ProgramError::Call(error) => error.errno(),
            ProgramError::NotFound { errno, .. } | ProgramError::Step { errno, .. } => Some(*errno),
            ProgramError::User(_) | ProgramError::Capability { .. } | ProgramError::Nul => None,
        }
    }

    fn path(&self) -> Option<&str> {
        match self {
            ProgramError::Call(error) => error.path(),
            ProgramError::NotFound { argv0, .. } => Some(argv0),
            ProgramError::User(error) => Some(error.file()),
            ProgramError::Step { path, .. } => path.as_deref(),
            ProgramError::Capability { .. } | ProgramError::Nul => None,
        }
    }
}

/// Starts the program in `cgroup` with these descriptors as its standard ones.
///
/// # Errors
/// [`ProgramError`] for what can be told before the fork; the rest comes through the child's outcome and
/// [`explain`].
pub(crate) fn start(
    program: &Program,
    cgroup: &Cgroup,
    stdio: [BorrowedFd<'_>; 3],
) -> Result<Child, ProgramError> {
    let argv0 = program.argv.first().map_or("", String::as_str);
    let path = program.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let found = find(argv0, path, &program.cwd)
        .map_err(|errno| ProgramError::NotFound { argv0: argv0.to_owned(), errno })?;
    let [executable, cwd] = [found, program.cwd.clone()].map(std::ffi::CString::new);
    let launch = Launch {
        executable: Executable::Path(executable.map_err(|_| ProgramError::Nul)?),
        argv: c_strings(program.argv.clone()).map_err(|_| ProgramError::Nul)?,
        env: c_strings(environment(program)).map_err(|_| ProgramError::Nul)?,
        stdio,
        inherit: Vec::new(),
        cgroup: Some(cgroup.as_fd()),
        controlling_terminal: false,
        cwd: cwd.map_err(|_| ProgramError::Nul)?,
        limits: program.rlimits.iter().map(limit).collect(),
        credentials: credentials(program)?,
        drop_capabilities: dropped(program)?,
        no_new_privileges: program.no_new_privileges,
    };
    Ok(fork_exec(&launch).map_err(CallError::of("fork"))?)
}

/// Makes the program's cgroup, with its memory limit.
///
/// # Errors
/// [`CallError`] with the control file.
pub(crate) fn make_cgroup(cgroups: &mut Cgroups, program: &Program) -> Result<Cgroup, CallError> {
    let cgroup = cgroups.make("program")?;
    if let Some(bytes) = program.memory_max {
        cgroup.set("memory.max", &bytes.to_string())?;
        // A program that has lost a process at random is worse than one that has ended.
        cgroup.set("memory.oom.group", "1")?;
    }
    Ok(cgroup)
}

/// What a child's failure means.
pub(crate) fn explain(program: &Program, step: Step, errno: Errno) -> ProgramError {
    let argv0 = program.argv.first().cloned();
    let path = match step {
        Step::Execute => argv0,
        Step::WorkingDirectory => Some(program.cwd.clone()),
        Step::Session
        | Step::Descriptors
        | Step::Limits
        | Step::Capabilities
        | Step::Groups
        | Step::Group
        | Step::User
        | Step::NoNewPrivileges
        | Step::Signals => None,
    };
    let exists = step == Step::Execute && path.as_ref().is_some_and(|path| std::fs::metadata(path).is_ok());
    let hint = if errno == Errno::ENOENT && exists {
        " (its interpreter or loader is missing in the root)"
    } else if errno == Errno::ENOEXEC {
        " (not a program for this machine, or a script without #!)"
    } else {
        ""
    };
    ProgramError::Step { step, path, errno, hint }
}

/// The program's environment.
pub(crate) fn environment(program: &Program) -> Vec<String> {
    let mut variables: Vec<String> =
        program.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !program.env.contains_key("PATH") {
        variables.push(format!("PATH={DEFAULT_PATH}"));
    }
    variables
}

fn credentials(program: &Program) -> Result<Option<Credentials>, ProgramError> {
    let user = match &program.user {
        None if program.groups.is_empty() => return Ok(None),
        None => "0",
        Some(user) => user,
    };
    let root = root_of_process()?;
    let (passwd, group) = (read(&root, "/etc/passwd"), read(&root, "/etc/group"));
    Ok(Some(users::credentials(user, &program.groups, &passwd, &group)?))
}

/// The text of a file of the image; an image without one has no entries.
fn read(root: &OwnedFd, path: &str) -> String {
    let mut bytes = Vec::new();
    // Not blocking, since the image may have anything there, a FIFO for instance.
    if let Ok(file) = open_in_root(root, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
        let _ = File::from(file).take(MAX_FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The capabilities to drop, by number: all that the kernel has and the spec does not name.
fn dropped(program: &Program) -> Result<Vec<u8>, ProgramError> {
    let Some(names) = &program.capabilities else { return Ok(Vec::new()) };
    let mut kept = Vec::with_capacity(names.len());
    for name in names {
        let known = caps::Capability::from_str(name);
        kept.push(known.map_err(|_| ProgramError::Capability { name: name.clone() })?);
    }
    let all = caps::runtime::procfs_all_supported(None).unwrap_or_else(|_| caps::all());
    Ok(all
        .into_iter()
        .filter(|capability| !kept.contains(capability))
        .map(|capability| capability.index())
        .collect())
}

fn limit(limit: &Rlimit) -> Limit {
    let resource = match limit.resource {
        Resource::As => libc::RLIMIT_AS,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::Cpu => libc::RLIMIT_CPU,
        Resource::Data => libc::RLIMIT_DATA,
        Resource::Fsize => libc::RLIMIT_FSIZE,
        Resource::Locks => libc::RLIMIT_LOCKS,
        Resource::Memlock => libc::RLIMIT_MEMLOCK,
        Resource::Msgqueue => libc::RLIMIT_MSGQUEUE,
        Resource::Nice => libc::RLIMIT_NICE,
        Resource::Nofile => libc::RLIMIT_NOFILE,
        Resource::Nproc => libc::RLIMIT_NPROC,
        Resource::Rss => libc::RLIMIT_RSS,
        Resource::Rtprio => libc::RLIMIT_RTPRIO,
        Resource::Rttime => libc::RLIMIT_RTTIME,
        Resource::Sigpending => libc::RLIMIT_SIGPENDING,
        Resource::Stack => libc::RLIMIT_STACK,
    };
    let value = |value: Option<u64>| value.unwrap_or(libc::RLIM_INFINITY);
    Limit { resource, soft: value(limit.soft), hard: value(limit.hard) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(document: serde_json::Value) -> Program {
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn a_path_is_added_only_where_there_is_none() {
        let bare = program(serde_json::json!({ "argv": ["x"], "env": { "A": "1" } }));
        let given = program(serde_json::json!({ "argv": ["x"], "env": { "PATH": "/opt" } }));
        let all = |program: &Program| environment(program);
        assert_eq!(all(&bare), ["A=1", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
        assert_eq!(all(&given), ["PATH=/opt"]);
    }

    #[test]
    fn naming_capabilities_drops_all_others() {
        let one = program(serde_json::json!({ "argv": ["x"], "capabilities": ["CAP_CHOWN"] }));
        let dropped = dropped(&one).unwrap();
        assert!(!dropped.contains(&caps::Capability::CAP_CHOWN.index()));
        assert!(dropped.contains(&caps::Capability::CAP_SYS_ADMIN.index()));
    }

    #[test]
    fn an_unknown_capability_is_named() {
        let odd = program(serde_json::json!({ "argv": ["x"], "capabilities": ["CAP_FLY"] }));
        assert!(dropped(&odd).unwrap_err().to_string().contains("CAP_FLY"));
    }

    #[test]
    fn a_missing_program_a_missing_loader_and_a_missing_directory_are_told_apart() {
        let missing = program(serde_json::json!({ "argv": ["/no/such"], "cwd": "/gone" }));
        let there = program(serde_json::json!({ "argv": ["/bin/sh"] }));
        let missing_program = explain(&missing, Step::Execute, Errno::ENOENT);
        assert_eq!(missing_program.path(), Some("/no/such"));
        assert_eq!(missing_program.to_string(), "execute: No such file or directory");
        assert!(explain(&there, Step::Execute, Errno::ENOENT).to_string().contains("loader"));
        assert_eq!(explain(&missing, Step::WorkingDirectory, Errno::ENOENT).path(), Some("/gone"));
    }

    #[test]
    fn no_limit_is_infinity() {
        let limit = limit(&Rlimit { resource: Resource::Nofile, soft: Some(5), hard: None });
        assert_eq!(limit, Limit { resource: libc::RLIMIT_NOFILE, soft: 5, hard: libc::RLIM_INFINITY });
    }
}
