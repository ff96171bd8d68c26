//! Pseudoterminals. Source: `pty(7)`, `ioctl_tty(2)`.

use std::io;
use std::os::fd::OwnedFd;

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::session::Window;
use nix::pty::{OpenptyResult, openpty};
use nix::unistd::{fchown, tcgetpgrp};

use crate::failure;
use crate::sys::{self, ChildSetup};

/// The agent's side of a command's terminal.
#[derive(Debug)]
pub struct Terminal(OwnedFd);

/// Makes a terminal for a command, which will take it as its own: the agent's side and the command's.
pub(super) fn open(setup: &mut ChildSetup, window: Window) -> Result<(OwnedFd, OwnedFd), AgentError> {
    let failed = |error: io::Error| failure::system("open a terminal", None, &error);
    let OpenptyResult { master, slave } =
        openpty(&size(window), None).map_err(|errno| failed(errno.into()))?;
    sys::close_on_exec(&master).and_then(|()| sys::close_on_exec(&slave)).map_err(failed)?;
    if let Some((uid, _, _)) = &setup.identity {
        // So that the user can open it by its name, as `login(1)` has it.
        fchown(&slave, Some(*uid), None).map_err(|errno| failed(errno.into()))?;
    }
    setup.terminal = true;
    Ok((master, slave))
}

fn size(window: Window) -> nix::pty::Winsize {
    nix::pty::Winsize { ws_row: window.rows, ws_col: window.columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    pub(super) fn new(master: OwnedFd) -> Terminal {
        Terminal(master)
    }

    /// Changes its size; the kernel sends SIGWINCH to the foreground process group.
    ///
    /// # Errors
    /// As `TIOCSWINSZ` in `ioctl_tty(2)`.
    pub fn resize(&self, window: Window) -> io::Result<()> {
        sys::set_window_size(&self.0, &size(window))
    }

    /// Signals the process group in the foreground. That there is none is no error: the sender could not know.
    pub fn signal_foreground(&self, number: u8) {
        if let Ok(group) = tcgetpgrp(&self.0)
            && group.as_raw() > 1
        {
            let _ = sys::kill(-group.as_raw(), number.into());
        }
    }
}
