//! A command's standard streams, before it runs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::session::Window;

use super::terminal;
use crate::failure;
use crate::sys::ChildSetup;

/// The agent's ends.
#[derive(Debug)]
pub(super) struct Ours {
    /// Takes input; a terminal's is a copy of its output's.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: Option<OwnedFd>,
    /// The terminal, where these are one.
    pub(super) terminal: Option<OwnedFd>,
}

/// The command's ends; no standard input is `/dev/null`.
#[derive(Debug)]
pub(super) struct Theirs {
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Makes pipes, or a terminal of that size.
pub(super) fn open(
    stdin: bool,
    window: Option<Window>,
    setup: &mut ChildSetup,
) -> Result<(Ours, Theirs), AgentError> {
    let failed = |error: io::Error| failure::system("open the streams", None, &error);
    match window {
        Some(window) => {
            let (master, slave) = terminal::open(setup, window)?;
            on_terminal(master, slave).map_err(failed)
        }
        None => pipes(stdin).map_err(failed),
    }
}

fn on_terminal(master: OwnedFd, slave: OwnedFd) -> io::Result<(Ours, Theirs)> {
    let ours = Ours {
        stdin: Some(master.try_clone()?),
        stdout: master.try_clone()?,
        stderr: None,
        terminal: Some(master),
    };
    let theirs = Theirs { stdin: Some(slave.try_clone()?), stdout: slave.try_clone()?, stderr: slave };
    Ok((ours, theirs))
}

fn pipes(stdin: bool) -> io::Result<(Ours, Theirs)> {
    let (their_stdin, our_stdin) = if stdin { Some(io::pipe()?) } else { None }.unzip();
    let (our_stdout, their_stdout) = io::pipe()?;
    let (our_stderr, their_stderr) = io::pipe()?;
    let ours = Ours {
        stdin: our_stdin.map(OwnedFd::from),
        stdout: our_stdout.into(),
        stderr: Some(our_stderr.into()),
        terminal: None,
    };
    let theirs = Theirs {
        stdin: their_stdin.map(OwnedFd::from),
        stdout: their_stdout.into(),
        stderr: their_stderr.into(),
    };
    Ok((ours, theirs))
}

impl Theirs {
    /// All of them.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.stdin.iter().chain([&self.stdout, &self.stderr]).map(AsFd::as_fd)
    }

    /// Gives the command copies of them.
    pub(super) fn give(&self, command: &mut Command) -> io::Result<()> {
        command.stdin(match &self.stdin {
            Some(stdin) => Stdio::from(stdin.try_clone()?),
            None => Stdio::null(),
        });
        command.stdout(Stdio::from(self.stdout.try_clone()?));
        command.stderr(Stdio::from(self.stderr.try_clone()?));
        Ok(())
    }
}
