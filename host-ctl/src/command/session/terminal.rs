//! Our own terminal while a session has it: raw, so that every key goes to the guest, and back as it was in the end.
//!
//! It is put back when [`Terminal`] is dropped, which every return, error and panic of ours comes to, and so do SIGINT,
//! SIGTERM and SIGHUP, which are heard instead of fatal. For SIGKILL and crashes there is `terminal-guard`.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use firstlight_protocol::message::session::Window;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::terminal_guard::{READY, RESTORED};
use crate::output::Failure;

/// The size of a terminal that does not know its own.
const DEFAULT: Window = Window { rows: 24, columns: 80 };

/// Whether a person is at both ends of us.
pub(in crate::command) fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The size of our terminal.
pub(in crate::command) fn window() -> Window {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin()));
    let known = size.ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    known.map_or(DEFAULT, |size| Window { rows: size.ws_row, columns: size.ws_col })
}

/// Our terminal, raw until this is dropped.
pub(in crate::command) struct Terminal {
    saved: Termios,
    guard: Option<UnixStream>,
    resized: Signal,
}

impl Terminal {
    /// Makes standard input raw. Whoever does this listens for signals already.
    pub(in crate::command) fn enter() -> Result<Terminal, Failure> {
        let failed = |what: &str, error: io::Error| Failure::failed(format!("cannot {what}: {error}"));
        let resized = signal(SignalKind::window_change())
            .map_err(|error| failed("listen for changes of the terminal's size", error))?;
        let saved =
            tcgetattr(io::stdin()).map_err(|error| failed("read the terminal's mode", error.into()))?;
        let guard = start_guard().map_err(|error| failed("start the terminal's guard", error))?;
        let terminal = Terminal { saved, guard: Some(guard), resized };
        tcsetattr(io::stdin(), OptionalActions::Now, &raw(&terminal.saved))
            .map_err(|error| failed("make the terminal raw", error.into()))?;
        Ok(terminal)
    }

    /// Waits until the terminal's size has changed, and gives the new one. Safe to drop and call again.
    pub(super) async fn resized(&mut self) -> Window {
        if self.resized.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        window()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone has no mode.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.saved);
        if let Some(mut guard) = self.guard.take() {
            let _ = guard.write_all(&[RESTORED]);
        }
    }
}

/// The mode in which every key is a byte and every byte is shown as it is. Source: `cfmakeraw(3)`.
pub(super) fn raw(mode: &Termios) -> Termios {
    let mut raw = mode.clone();
    raw.make_raw();
    raw
}

/// Starts the guard, and waits until it knows how the terminal was.
fn start_guard() -> io::Result<UnixStream> {
    let (ours, theirs) = UnixStream::pair()?;
    let terminal: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("terminal-guard").stdin(OwnedFd::from(theirs)).stdout(terminal).stderr(Stdio::null());
    let mut child = command.spawn()?;
    // Waits for the end of a process that ends when we do, and costs a thread for as long.
    std::thread::spawn(move || child.wait());
    drop(command);
    let mut ready = [0];
    io::Read::read_exact(&mut &ours, &mut ready)?;
    if ready == [READY] { Ok(ours) } else { Err(io::ErrorKind::InvalidData.into()) }
}
