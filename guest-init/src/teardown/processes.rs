//! Ending every process: SIGTERM, a grace, SIGKILL; the agent last, because it still has output to deliver.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::unistd::Pid;

use crate::supervise::Remains;
use crate::sys::{kill, pidfd_open, reap};
use crate::wait::{Deadline, is_ready, poll, readable};

/// How long the agent has, after everything else is gone, to deliver the end of the program's output.
const AGENT_GRACE: Duration = Duration::from_secs(5);

/// How long the kernel has to take away a process that was sent SIGKILL.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// Processes watched at a time: descriptors are limited, and the rest is looked for again afterwards.
const WATCHED: usize = 256;

/// `PF_KTHREAD` of `linux/sched.h`: a thread of the kernel's, which no signal ends.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Ends every process but this one.
pub(super) fn end_all(remains: &Remains) {
    let agent = remains.agent;
    end(agent, libc::SIGTERM, remains.grace);
    end(agent, libc::SIGKILL, KILL_GRACE);
    if let Some(agent) = agent {
        end_one(agent, libc::SIGTERM, AGENT_GRACE);
        end(None, libc::SIGKILL, KILL_GRACE);
    }
}

/// Signals everything but `spared` once and waits until it is gone, at most for `grace`.
fn end(spared: Option<Pid>, signal: i32, grace: Duration) {
    let deadline = Deadline::after(grace);
    let mut others = processes(spared);
    for pid in &others {
        // ESRCH: it is gone already.
        let _ = kill(pid.as_raw(), signal);
    }
    while !others.is_empty() && !deadline.passed() {
        let watched: Vec<OwnedFd> =
            others.iter().take(WATCHED).filter_map(|pid| pidfd_open(*pid).ok()).collect();
        for process in &watched {
            wait_for(process, deadline);
        }
        while reap().is_some() {}
        others = processes(spared);
    }
}

fn end_one(pid: Pid, signal: i32, grace: Duration) {
    if let Ok(process) = pidfd_open(pid) {
        let _ = kill(pid.as_raw(), signal);
        wait_for(&process, Deadline::after(grace));
        while reap().is_some() {}
    }
}

/// Waits until a process has ended. Children's children too are reaped by this one in the end.
fn wait_for(process: &OwnedFd, deadline: Deadline) {
    let mut fds = [readable(process.as_fd())];
    while !deadline.passed() && poll(&mut fds, Some(deadline)).is_ok() && !is_ready(&fds[0]) {}
}

/// Every process that can be ended, but this one and `spared`.
fn processes(spared: Option<Pid>) -> Vec<Pid> {
    let this = Pid::this();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
    let mut found: Vec<Pid> = pids.filter(|pid| *pid != this && Some(*pid) != spared).collect();
    found.retain(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| can_end(&stat))
    });
    found
}

/// Whether the process of this `/proc/PID/stat` can be ended: it is no thread of the kernel's and no zombie. Source:
/// `proc_pid_stat(5)`; the name in parentheses may contain anything, parentheses included.
fn can_end(stat: &str) -> bool {
    let Some((_, fields)) = stat.rsplit_once(')') else { return false };
    let mut fields = fields.split_whitespace();
    let state = fields.next();
    // Five fields lie between the state and the flags.
    let flags: Option<u64> = fields.nth(5).and_then(|flags| flags.parse().ok());
    !matches!(state, Some("Z" | "X")) && flags.is_some_and(|flags| flags & KERNEL_THREAD == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_threads_and_zombies_are_not_waited_for() {
        assert!(can_end("7 (sh) S 1 7 7 0 -1 4194560 100 0"));
        assert!(!can_end("8 (kworker/0:1) I 2 0 0 0 -1 69238880 0 0"));
        assert!(!can_end("9 (sh) Z 1 7 7 0 -1 4194560 100 0"));
    }

    #[test]
    fn a_name_that_looks_like_a_stat_line_does_not_hide_a_process() {
        assert!(can_end("7 (x) Z 1 7 7 0 -1 2097152) S 1 7 7 0 -1 4194560 100 0"));
    }

    #[test]
    fn this_very_process_can_be_ended_by_its_own_stat() {
        assert!(can_end(&std::fs::read_to_string("/proc/self/stat").unwrap()));
    }
}
