//! A process, named so that a recycled pid is never taken for it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;

use crate::sys;

/// A process of this boot of the host: its pid, and when it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// The pid.
    pub pid: u32,
    /// Clock ticks from the host's start to its own. Source: `proc_pid_stat(5)`, field 22.
    pub start_time: u64,
}

/// A handle to a process that lived when it was opened; it never comes to mean another one.
#[derive(Debug)]
pub struct ProcessHandle {
    fd: OwnedFd,
}

impl ProcessId {
    /// The identity of the process that has `pid` now; `None` if there is none or it is a zombie.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn of(pid: u32) -> io::Result<Option<ProcessId>> {
        let mut stat = String::new();
        match File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read_to_string(&mut stat)) {
            Ok(_) => Ok(parse_start_time(&stat).map(|start_time| ProcessId { pid, start_time })),
            // Between open and read the process may go: the kernel then says ESRCH.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether this very process still runs.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn is_alive(&self) -> io::Result<bool> {
        Ok(ProcessId::of(self.pid)? == Some(*self))
    }

    /// Opens this very process; `None` when it is gone. The identity is looked at after the descriptor was
    /// opened, so the descriptor cannot be a successor's.
    ///
    /// # Errors
    /// `pidfd_open(2)` failed, or `/proc` cannot be read.
    pub fn open(&self) -> io::Result<Option<ProcessHandle>> {
        match self.open_unreaped() {
            Ok(handle) => Ok(self.is_alive()?.then_some(handle)),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a child of our own that nobody has waited for: its pid cannot be another's, even when it has ended.
    ///
    /// # Errors
    /// `pidfd_open(2)` failed.
    pub fn open_unreaped(&self) -> io::Result<ProcessHandle> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        Ok(ProcessHandle { fd: pidfd_open(pid, PidfdFlags::NONBLOCK)? })
    }
}

impl ProcessHandle {
    /// Sends SIGKILL. A process that is gone already is no error.
    ///
    /// # Errors
    /// It belongs to somebody else.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.fd, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Something to wait on: readable once the process has ended. Source: `pidfd_open(2)`.
    ///
    /// # Errors
    /// Too many descriptors are open.
    pub fn end(&self) -> io::Result<AsyncFd<OwnedFd>> {
        sys::readiness(self.fd.try_clone()?)
    }
}

/// Field 22, counted after the command name, which may hold spaces and parentheses. A zombie has none for us: it runs
/// no more.
fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let after = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(parse_start_time(&format!("7 (a) b) S {after}")), Some(4242));
        assert_eq!(parse_start_time(&format!("7 (a) Z {after}")), None);
    }

    #[test]
    fn we_are_alive_and_another_start_time_is_not_us() {
        let us = ProcessId::of(std::process::id()).unwrap().unwrap();
        assert!(us.is_alive().unwrap());
        assert!(us.open().unwrap().is_some());
        let recycled = ProcessId { start_time: us.start_time + 1, ..us };
        assert!(!recycled.is_alive().unwrap());
        assert!(recycled.open().unwrap().is_none());
    }

    #[test]
    fn a_zombie_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let id = ProcessId::of(child.id()).unwrap();
        let fd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let mut wait = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut wait, None).unwrap();
        assert_eq!(ProcessId::of(child.id()).unwrap(), None);
        if let Some(id) = id {
            assert!(!id.is_alive().unwrap());
        }
        child.wait().unwrap();
    }
}
