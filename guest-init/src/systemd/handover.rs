//! Handing PID 1 over to the image's init.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use firstlight_protocol::boot_spec::{Mode, Program};
use firstlight_protocol::sentinel::Event;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlink};
use nix::unistd::{AccessFlags, faccessat};

use crate::error::{CallError, Cause};
use crate::report::Reporter;
use crate::stage::in_root::{open_in_root, root_of_process, through_proc};
use crate::stage::program::{ProgramError, c_strings, environment};
use crate::sys::become_program;

/// The file name of the init whose units and signals we know.
const SYSTEMD: &str = "systemd";

/// PID 1 could not be handed over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandOverError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("{}: the image needs systemd there, or use --mode exec", errno.desc())]
    Missing { argv0: String, errno: Errno },
    #[error("it is {resolved}, not systemd; use --mode exec")]
    NotSystemd { argv0: String, resolved: String },
    #[error("execute it as PID 1: {}", errno.desc())]
    Execute { argv0: String, errno: Errno },
}

impl Cause for HandOverError {
    fn errno(&self) -> Option<Errno> {
        match self {
            HandOverError::Call(error) => error.errno(),
            HandOverError::Program(error) => error.errno(),
            HandOverError::Missing { errno, .. } | HandOverError::Execute { errno, .. } => Some(*errno),
            HandOverError::NotSystemd { .. } => None,
        }
    }

    fn path(&self) -> Option<&str> {
        match self {
            HandOverError::Call(error) => error.path(),
            HandOverError::Program(error) => error.path(),
            HandOverError::Missing { argv0, .. }
            | HandOverError::NotSystemd { argv0, .. }
            | HandOverError::Execute { argv0, .. } => Some(argv0),
        }
    }
}

/// Becomes the init that `program` names. Comes back only with an error, and is then PID 1 as before. `prepare` is
/// called when nothing but the `execve` itself can fail any more.
pub(crate) fn hand_over(
    program: &Program,
    reporter: &Reporter,
    console: BorrowedFd<'_>,
    prepare: impl FnOnce(),
) -> HandOverError {
    match (check(program), arguments(program)) {
        (Ok(()), Ok([argv, env])) => {
            prepare();
            let event = Event::ProgramStart { mode: Mode::Systemd, pid: std::process::id() };
            let argv0 = program.argv.first().cloned().unwrap_or_default();
            let path = argv.first().cloned().unwrap_or_default();
            let errno = reporter.hand_over(event, console, || become_program(&path, &argv, &env));
            HandOverError::Execute { argv0, errno }
        }
        (Err(error), _) | (_, Err(error)) => error,
    }
}

/// Looks at the init through all links, as they lead inside the root.
fn check(program: &Program) -> Result<(), HandOverError> {
    let root = root_of_process()?;
    let argv0 = program.argv.first().cloned().unwrap_or_default();
    let missing = |argv0: &str| {
        let argv0 = argv0.to_owned();
        move |errno| HandOverError::Missing { argv0, errno }
    };
    let init = open_in_root(&root, &argv0, OFlag::O_PATH).map_err(missing(&argv0))?;
    faccessat(&init, "", AccessFlags::X_OK, AtFlags::AT_EMPTY_PATH).map_err(missing(&argv0))?;
    let resolved = readlink(through_proc(&init).as_str()).map_err(CallError::on("look at", &argv0))?;
    let resolved = resolved.to_string_lossy().into_owned();
    if resolved.rsplit('/').next() == Some(SYSTEMD) {
        Ok(())
    } else {
        Err(HandOverError::NotSystemd { argv0, resolved })
    }
}

fn arguments(program: &Program) -> Result<[Vec<CString>; 2], HandOverError> {
    let argv = c_strings(program.argv.clone()).map_err(|_| ProgramError::Nul)?;
    let env = c_strings(environment(program)).map_err(|_| ProgramError::Nul)?;
    Ok([argv, env])
}
