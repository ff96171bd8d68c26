//! `terminal-guard`, which `exec -t`, `attach` and `shell` start: it puts the terminal back when they could not.
//!
//! Its standard input is a socket to who started it, its standard output the terminal. It is in a session of its own, so
//! that neither the terminal's signals nor its hang-up reach it.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use clap::Args;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::terminal::raw;
use crate::output::Failure;

/// What the guard says once it knows how the terminal was.
pub(super) const READY: u8 = b'r';

/// What it hears once the terminal is as it was.
pub(super) const RESTORED: u8 = b'd';

/// Put a terminal back when the command that made it raw was killed; started by that command
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct TerminalGuard {}

impl TerminalGuard {
    /// Not asynchronous: there is one thing to wait for.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        guard().map_err(|error| Failure::failed(format!("guard the terminal: {error}")))
    }
}

fn guard() -> io::Result<()> {
    // A process that has just been started leads no group, so this does not fail; if it did, a hang-up might end us too.
    let _ = rustix::process::setsid();
    let saved = tcgetattr(io::stdout())?;
    let mut starter = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    starter.write_all(&[READY])?;
    let mut word = [0];
    let is_restored = starter.read(&mut word).is_ok_and(|count| count == 1 && word == [RESTORED]);
    // Whoever has set another mode meanwhile knows better.
    if !is_restored && are_same(&tcgetattr(io::stdout())?, &raw(&saved)) {
        tcsetattr(io::stdout(), OptionalActions::Now, &saved)?;
    }
    Ok(())
}

fn are_same(a: &Termios, b: &Termios) -> bool {
    let modes = |mode: &Termios| (mode.input_modes, mode.output_modes, mode.control_modes, mode.local_modes);
    modes(a) == modes(b)
}
