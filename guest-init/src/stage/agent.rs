//! The agent: what it inherits, made once a boot, and how a process of it is started.
//!
//! Everything that has to survive the agent's death is made here and kept by init: the program's output pipes, the
//! logs they are moved into, and the configuration.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use firstlight_protocol::agent_config::{
    AgentConfig, CONFIG_FD_ENV, OutputDescriptors, ProgramOutput, READY_FD_ENV,
};
use firstlight_protocol::boot_spec::{Agent, BootSpec};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek, pipe2};

use super::cgroup::Cgroup;
use super::program::{DEFAULT_PATH, c_strings};
use crate::error::{CallError, Cause};
use crate::sys::{Child, Executable, Launch, fork_exec};

/// Where the agent is in the initramfs.
pub(crate) const PATH: &str = "/firstlight/agent";

/// The agent could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the initramfs has no agent; build it with one, or boot without (skip_guest_agent)")]
    Missing,
    #[error("cannot render its configuration: {0}")]
    Config(String),
}

impl Cause for AgentError {
    fn errno(&self) -> Option<Errno> {
        match self {
            AgentError::Call(error) => error.errno(),
            AgentError::Missing => Some(Errno::ENOENT),
            AgentError::Config(_) => None,
        }
    }

    fn path(&self) -> Option<&str> {
        match self {
            AgentError::Call(error) => error.path(),
            AgentError::Missing | AgentError::Config(_) => Some(PATH),
        }
    }
}

/// One output stream of the program.
#[derive(Debug)]
struct Stream {
    pipe: OwnedFd,
    log: OwnedFd,
}

/// What every process of the agent inherits.
#[derive(Debug)]
pub(crate) struct Inheritance {
    executable: OwnedFd,
    config: OwnedFd,
    streams: [Stream; 2],
    cgroup: Cgroup,
}

/// The write ends of the program's output pipes.
#[derive(Debug)]
pub(crate) struct OutputEnds {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// A process of the agent that was started and has not said that it is ready.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    /// The pipe it says so through.
    pub(crate) ready: OwnedFd,
}

/// Opens the agent's executable, which the switch of the root takes out of reach.
///
/// # Errors
/// [`AgentError::Missing`] when the initramfs has none.
pub(crate) fn open_executable(initramfs: &OwnedFd) -> Result<OwnedFd, AgentError> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    match openat(initramfs, PATH.trim_start_matches('/'), flags, Mode::empty()) {
        Ok(executable) => Ok(executable),
        Err(Errno::ENOENT) => Err(AgentError::Missing),
        Err(errno) => Err(CallError::on("open the agent", PATH)(errno).into()),
    }
}

/// Makes all that the agent inherits, but for its cgroup, and the ends of the pipes that are the program's.
///
/// # Errors
/// [`AgentError`] with the call that failed.
pub(crate) fn prepare(
    executable: OwnedFd,
    spec: &BootSpec,
    agent: &Agent,
    cgroup: Cgroup,
) -> Result<(Inheritance, OutputEnds), AgentError> {
    let (stdout, stdout_end) = stream(c"stdout")?;
    let (stderr, stderr_end) = stream(c"stderr")?;
    let descriptors =
        |stream: &Stream| OutputDescriptors { pipe: stream.pipe.as_raw_fd(), log: stream.log.as_raw_fd() };
    let config = AgentConfig {
        boot_id: spec.boot_id,
        token: agent.token.clone(),
        port: agent.port,
        transport: spec.boot.transport,
        program_output: Some(ProgramOutput { stdout: descriptors(&stdout), stderr: descriptors(&stderr) }),
    };
    let text = serde_json::to_string(&config).map_err(|error| AgentError::Config(error.to_string()))?;
    let file = memory_file(c"agent-config")?;
    let mut file = File::from(file);
    file.write_all(text.as_bytes()).map_err(CallError::io("write the agent's configuration", PATH))?;
    let inheritance = Inheritance { executable, config: file.into(), streams: [stdout, stderr], cgroup };
    Ok((inheritance, OutputEnds { stdout: stdout_end, stderr: stderr_end }))
}

fn stream(name: &std::ffi::CStr) -> Result<(Stream, OwnedFd), CallError> {
    let (pipe, end) = pipe2(OFlag::O_CLOEXEC).map_err(CallError::of("make an output pipe"))?;
    Ok((Stream { pipe, log: memory_file(name)? }, end))
}

fn memory_file(name: &std::ffi::CStr) -> Result<OwnedFd, CallError> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC).map_err(CallError::of("memfd_create"))
}

impl Inheritance {
    /// Starts a process of the agent. Its own messages go to `console`.
    ///
    /// # Errors
    /// [`CallError`] for what can be told before the fork; the rest comes through the child's outcome.
    pub(crate) fn start(&self, null: BorrowedFd<'_>, console: BorrowedFd<'_>) -> Result<Started, CallError> {
        // Its predecessor may have left the position, which all processes share, at the end.
        lseek(&self.config, 0, Whence::SeekSet).map_err(CallError::of("rewind the agent's configuration"))?;
        let (ready, ready_end) = pipe2(OFlag::O_CLOEXEC).map_err(CallError::of("make a readiness pipe"))?;
        let env = vec![
            format!("PATH={DEFAULT_PATH}"),
            format!("{READY_FD_ENV}={}", ready_end.as_raw_fd()),
            format!("{CONFIG_FD_ENV}={}", self.config.as_raw_fd()),
        ];
        let mut inherit = vec![ready_end.as_fd(), self.config.as_fd()];
        inherit.extend(self.streams.iter().flat_map(|stream| [stream.pipe.as_fd(), stream.log.as_fd()]));
        let launch = Launch {
            executable: Executable::Descriptor(self.executable.as_fd()),
            argv: vec![CString::from(c"guest-agent")],
            // Numbers and constants: there is no NUL to be refused.
            env: c_strings(env).unwrap_or_default(),
            stdio: [null, console, console],
            inherit,
            cgroup: Some(self.cgroup.as_fd()),
            controlling_terminal: false,
            cwd: CString::from(c"/"),
            limits: Vec::new(),
            credentials: None,
            drop_capabilities: Vec::new(),
            no_new_privileges: false,
        };
        let child = fork_exec(&launch).map_err(CallError::of("fork the agent"))?;
        Ok(Started { child, ready })
    }
}
