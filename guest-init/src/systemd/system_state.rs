//! Learning from systemd that it has finished starting.
//!
//! `systemctl` asks it over systemd's private socket, which is there with and without D-Bus, and waits for the word that
//! the queue of jobs has run empty: an event, and no unit of ours that would be a job itself. When systemd is `degraded`
//! a second question brings the names of the units that failed.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read};

use crate::stage::program::{DEFAULT_PATH, c_strings, find};
use crate::sys::{Child, Executable, Launch, fork_exec};

/// Bytes of an answer that are kept. A sentinel holds far less.
const MAX_ANSWER: usize = 16 << 10;

const IS_RUNNING: [&str; 3] = ["systemctl", "is-system-running", "--wait"];
const FAILED: [&str; 6] =
    ["systemctl", "list-units", "--state=failed", "--plain", "--no-legend", "--no-pager"];

/// A question on its way.
#[derive(Debug)]
pub(super) struct Waiting {
    child: Child,
    output: OwnedFd,
    text: Vec<u8>,
    /// What the first question brought.
    state: Option<String>,
}

/// How far the answer is.
#[derive(Debug)]
pub(super) enum SystemState {
    /// Not there yet.
    Unknown(Waiting),
    /// It has finished starting.
    Known { state: String, failed: String },
    /// It will not be known.
    Never(String),
}

impl Waiting {
    /// Asks, unless the answer is in the `log` already: this process may have been started again.
    pub(super) fn start(log: &str) -> Option<Waiting> {
        let known = log.lines().any(|line| line.starts_with("FIRSTLIGHT-SYSTEM-READY "));
        if known { None } else { ask(&IS_RUNNING, None).ok() }
    }

    /// What becomes readable when there is more.
    pub(super) fn output(&self) -> &OwnedFd {
        &self.output
    }

    /// Reads what there is.
    pub(super) fn read(mut self) -> SystemState {
        let mut bytes = [0; 512];
        match read(&self.output, &mut bytes) {
            Ok(0) => self.conclude(),
            Ok(count) => {
                if self.text.len() < MAX_ANSWER {
                    self.text.extend_from_slice(bytes.get(..count).unwrap_or_default());
                }
                SystemState::Unknown(self)
            }
            Err(Errno::EINTR | Errno::EAGAIN) => SystemState::Unknown(self),
            Err(errno) => SystemState::Never(errno.desc().to_owned()),
        }
    }

    /// The answer is complete.
    fn conclude(self) -> SystemState {
        if let Err((step, errno)) = self.child.outcome() {
            return SystemState::Never(format!("systemctl: {}: {}", step.words(), errno.desc()));
        }
        let text = String::from_utf8_lossy(&self.text);
        match (self.state, text.trim()) {
            (Some(state), _) => SystemState::Known { state, failed: first_words(&text) },
            (None, "running") => SystemState::Known { state: "running".into(), failed: String::new() },
            (None, "degraded") => match ask(&FAILED, Some("degraded".into())) {
                Ok(waiting) => SystemState::Unknown(waiting),
                Err(errno) => SystemState::Never(errno.desc().to_owned()),
            },
            (None, other) => SystemState::Never(format!("it is {other:?}")),
        }
    }
}

/// The first word of each line.
fn first_words(text: &str) -> String {
    text.lines().filter_map(|line| line.split_whitespace().next()).collect::<Vec<_>>().join(" ")
}

fn ask(question: &[&str], state: Option<String>) -> nix::Result<Waiting> {
    let (output, end) = pipe2(OFlag::O_CLOEXEC)?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(|error| crate::error::io_errno(&error))?;
    let systemctl = find("systemctl", DEFAULT_PATH, "/")?;
    // Constants and paths of the root: there is no NUL to be refused.
    let strings = |strings: Vec<String>| c_strings(strings).unwrap_or_default();
    let launch = Launch {
        executable: Executable::Path(CString::new(systemctl).unwrap_or_default()),
        argv: strings(question.iter().map(|&word| word.to_owned()).collect()),
        env: strings(vec![format!("PATH={DEFAULT_PATH}"), "SYSTEMD_COLORS=0".into(), "LC_ALL=C".into()]),
        stdio: [null.as_fd(), end.as_fd(), null.as_fd()],
        inherit: Vec::new(),
        cgroup: None,
        controlling_terminal: false,
        cwd: CString::from(c"/"),
        limits: Vec::new(),
        credentials: None,
        drop_capabilities: Vec::new(),
        no_new_privileges: false,
    };
    let child = fork_exec(&launch)?;
    Ok(Waiting { child, output, text: Vec::new(), state })
}

#[cfg(test)]
mod tests {
    use super::first_words;

    #[test]
    fn failed_units_are_the_first_words() {
        let text = "a.service loaded failed failed A\n  b.mount loaded failed failed B\n\n";
        assert_eq!(first_words(text), "a.service b.mount");
    }
}
