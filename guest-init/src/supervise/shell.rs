//! The shell a failed boot ends in, when its spec asks for one.

use std::ffi::CString;
use std::os::fd::AsFd;

use super::Supervisor;
use super::signals::Request;
use crate::console;
use crate::error::CallError;
use crate::stage::program::{DEFAULT_PATH, c_strings};
use crate::sys::{self, Executable, Launch, fork_exec};
use crate::wait::{poll, readable};

impl Supervisor {
    /// Runs `/bin/sh` on the console until it ends or a stop is asked for. It is in the root if that is mounted.
    ///
    /// # Errors
    /// [`CallError`] when it cannot be started; a missing shell is one.
    pub(crate) fn run_shell(&mut self) -> Result<(), CallError> {
        let env = vec![format!("PATH={DEFAULT_PATH}"), "HOME=/".to_owned(), "TERM=vt100".to_owned()];
        let console = self.console.as_fd();
        let launch = Launch {
            executable: Executable::Path(CString::from(c"/bin/sh")),
            argv: vec![CString::from(c"-sh")],
            // Constants: there is no NUL to be refused.
            env: c_strings(env).unwrap_or_default(),
            stdio: [console, console, console],
            inherit: Vec::new(),
            cgroup: None,
            controlling_terminal: true,
            cwd: CString::from(c"/"),
            limits: Vec::new(),
            credentials: None,
            drop_capabilities: Vec::new(),
            no_new_privileges: false,
        };
        console::set_verbatim(&self.console, false);
        let child = fork_exec(&launch).map_err(CallError::on("fork", "/bin/sh"))?;
        poll(&mut [readable(child.outcome.as_fd())], None).map_err(CallError::of("wait for the shell"))?;
        child.outcome().map_err(|(_, errno)| CallError::on("run a shell", "/bin/sh")(errno))?;
        // A human sits there, so there is no deadline; a stop ends it.
        while !self.stop.is_requested() {
            let mut fds = [readable(self.signals.as_fd()), readable(self.context.wake.as_fd())];
            poll(&mut fds, None).map_err(CallError::of("wait for the shell"))?;
            self.context.wake.lower();
            self.obey_commands();
            while let Some(request) = self.signals.next() {
                match request {
                    Request::Stop { grace_ms } => self.request_stop(grace_ms),
                    Request::Reap | Request::Forward(_) => {}
                }
            }
            while let Some((pid, _)) = sys::reap() {
                if pid == child.pid {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}
