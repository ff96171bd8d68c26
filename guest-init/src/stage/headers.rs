//! The headers worker's process: this very binary, started once more.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use firstlight_protocol::boot_spec::Headers;
use nix::unistd::Pid;

use super::cgroup::Cgroups;
use super::program::{DEFAULT_PATH, c_strings};
use crate::error::CallError;
use crate::headers::Options;
use crate::sys::{Executable, Launch, fork_exec};

/// This process's own executable, wherever its path has gone.
const THIS: &str = "/proc/self/exe";

/// Starts the worker in a cgroup of its own. Its messages, of which there should be none, go to `console`.
///
/// # Errors
/// [`CallError`] for what can be told before the fork; a worker that comes to nothing after it ends without a result.
pub(crate) fn start(
    headers: &Headers,
    cgroups: &mut Cgroups,
    null: BorrowedFd<'_>,
    console: BorrowedFd<'_>,
) -> Result<Pid, CallError> {
    let executable = File::open(THIS).map_err(CallError::io("open", THIS))?;
    let cgroup = cgroups.make("headers")?;
    let options = Options { serial: headers.serial.clone(), mask_others: headers.mask_others };
    let argv = ["guest-init".to_owned()].into_iter().chain(options.arguments()).collect();
    let launch = Launch {
        executable: Executable::Descriptor(executable.as_fd()),
        // The spec lets no NUL into a serial.
        argv: c_strings(argv).unwrap_or_default(),
        env: c_strings(vec![format!("PATH={DEFAULT_PATH}")]).unwrap_or_default(),
        stdio: [null, console, console],
        inherit: Vec::new(),
        cgroup: Some(cgroup.as_fd()),
        controlling_terminal: false,
        cwd: c"/".to_owned(),
        limits: Vec::new(),
        credentials: None,
        drop_capabilities: Vec::new(),
        no_new_privileges: true,
    };
    Ok(fork_exec(&launch).map_err(CallError::of("fork the headers worker"))?.pid)
}
