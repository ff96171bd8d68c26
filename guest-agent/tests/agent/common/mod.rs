//! The agent as a child process, and a client for it.

mod client;
mod init;
mod session;
mod sys;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use firstlight_guest_agent::sys as agent_sys;
use firstlight_protocol::agent_config::{AgentConfig, CONFIG_FD_ENV, READY_FD_ENV};
use firstlight_protocol::boot_spec::Transport;
use firstlight_protocol::hex::{BootId, Secret};
use firstlight_protocol::message::file::Place;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::TempDir;

pub use client::Client;
pub use init::ProgramPipes;
pub use session::{Ended, Told, command, script};
pub use sys::Lease;

/// How long anything a test waits for may take. Only a failing test waits this long.
pub const DEADLINE: Duration = Duration::from_secs(60);

pub const BOOT: BootId = BootId([0x5f, 0x1c, 0x09, 0xae]);
pub const TOKEN: Secret = Secret([0xa7; 32]);

/// An agent that runs; killed when dropped.
pub struct Agent {
    child: Child,
    directory: TempDir,
}

impl Agent {
    pub fn start() -> Agent {
        Agent::start_with(None)
    }

    /// Starts an agent as init does, and waits until it says it listens.
    #[track_caller]
    pub fn start_with(output: Option<&ProgramPipes>) -> Agent {
        let directory = TempDir::new().unwrap();
        let (child, ready) = spawn(&directory, output);
        assert_eq!(ready, "READY=1\n");
        Agent { child, directory }
    }

    /// Ends the agent as a crash does, and starts another in its place, as init does.
    #[track_caller]
    pub fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // Unlike a vsock port, a socket's name outlives who listened on it.
        std::fs::remove_file(self.socket()).unwrap();
        let (child, ready) = spawn(&self.directory, None);
        assert_eq!(ready, "READY=1\n");
        self.child = child;
    }

    /// Starts an agent in a directory in which `prepare` has left something for it.
    #[track_caller]
    pub fn start_prepared(prepare: impl FnOnce(&Path)) -> Agent {
        let directory = TempDir::new().unwrap();
        prepare(directory.path());
        let (child, ready) = spawn(&directory, None);
        assert_eq!(ready, "READY=1\n");
        Agent { child, directory }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("agent.sock")
    }

    /// Where the agent looks for this boot's sentinels.
    pub fn events(&self) -> PathBuf {
        self.directory.path().join("events")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    #[track_caller]
    pub fn dial(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// A connection past its hello.
    #[track_caller]
    pub fn connect(&self) -> Client {
        let mut client = Client::new(self.dial());
        client.hello();
        client
    }

    /// A figure in KiB from the agent's `/proc/PID/status`.
    pub fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Ends the agent as a crash does: between any two instructions.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM, as init does when the VM ends.
    pub fn terminate(&self) {
        agent_sys::kill(i32::try_from(self.pid()).unwrap(), 15).unwrap();
    }

    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        wait_for_end(self.pid());
        self.child.wait().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Only one agent at a time is being spawned: descriptors are inheritable meanwhile.
static SPAWN: Mutex<()> = Mutex::new(());

/// Starts an agent on `directory`; gives what it wrote to its ready descriptor before it closed it.
fn spawn(directory: &TempDir, output: Option<&ProgramPipes>) -> (Child, String) {
    let config = AgentConfig {
        boot_id: BOOT,
        token: TOKEN,
        port: 1024,
        transport: Transport::Vsock,
        program_output: output.map(ProgramPipes::descriptors),
    };
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&serde_json::to_vec(&config).unwrap()).unwrap();
    // As a shell starts what runs in the background. What the agent executes is not to inherit that.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' INT QUIT; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_guest-agent")])
        .arg("--listen")
        .arg(format!("unix:{}", directory.path().join("agent.sock").display()))
        .arg("--events")
        .arg(directory.path().join("events"));
    let output = output.map(|output| output.inherited());
    start(&mut command, &file, output.as_ref().map_or(&[], |output| output.as_slice()))
}

/// Runs an agent's command line with a configuration, a ready descriptor and others besides.
pub fn start(command: &mut Command, config: &File, others: &[BorrowedFd<'_>]) -> (Child, String) {
    let (mut ready, ready_writer) = std::io::pipe().unwrap();
    command
        .env(CONFIG_FD_ENV, config.as_raw_fd().to_string())
        .env(READY_FD_ENV, ready_writer.as_raw_fd().to_string())
        .stdin(Stdio::null());
    let set_inherited = |flag| {
        for descriptor in [config.as_fd(), ready_writer.as_fd()].iter().chain(others) {
            fcntl(descriptor, FcntlArg::F_SETFD(flag)).unwrap();
        }
    };
    let child = {
        let _alone = SPAWN.lock().unwrap();
        set_inherited(FdFlag::empty());
        let child = command.spawn().unwrap();
        set_inherited(FdFlag::FD_CLOEXEC);
        child
    };
    drop(ready_writer);
    let mut said = String::new();
    ready.read_to_string(&mut said).unwrap();
    (child, said)
}

/// A path as the agent is asked for it.
pub fn place(path: &Path) -> Place {
    Place::new(path.to_str().unwrap())
}

/// Waits until a process is no more than a zombie.
#[track_caller]
pub fn wait_for_end(pid: u32) {
    assert!(ends(pid, PollTimeout::try_from(DEADLINE).unwrap()), "process {pid} did not end");
}

/// Whether a process is more than a zombie.
pub fn is_running(pid: u32) -> bool {
    !ends(pid, PollTimeout::ZERO)
}

/// Whether a process is gone within this time.
fn ends(pid: u32, within: PollTimeout) -> bool {
    let Ok(pidfd) = agent_sys::open_pidfd(pid) else { return true };
    poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], within).unwrap() == 1
}
