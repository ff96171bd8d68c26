//! The cgroups of what init starts. Source: the kernel's cgroup-v2 document.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};

use crate::error::{CallError, Cause};

const TOP: &str = "/sys/fs/cgroup";

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC);

/// Bytes of `memory.events`, a handful of short lines.
const MAX_EVENTS: usize = 512;

/// A cgroup, held open so that it can be used whatever becomes of its path.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directory: OwnedFd,
}

/// Makes cgroups, wherever the hierarchy is moved to.
#[derive(Debug)]
pub(crate) struct Cgroups {
    top: Cgroup,
    handed_down: bool,
}

impl Cgroups {
    /// To be called while the hierarchy is where it belongs.
    ///
    /// # Errors
    /// Those of opening it.
    pub(crate) fn open() -> Result<Cgroups, CallError> {
        let directory =
            nix::fcntl::open(TOP, DIRECTORY, Mode::empty()).map_err(CallError::on("open", TOP))?;
        Ok(Cgroups { top: Cgroup { directory }, handed_down: false })
    }

    /// Makes the cgroup `firstlight-NAME`. One cgroup for all of them would cost a boot 150,000 instructions, and each
    /// page of the program's a step more in the kernel's accounts.
    ///
    /// # Errors
    /// [`CallError`] with the file concerned.
    pub(crate) fn make(&mut self, name: &str) -> Result<Cgroup, CallError> {
        self.hand_down_controllers()?;
        let name = format!("firstlight-{name}");
        let top = &self.top.directory;
        match mkdirat(top, name.as_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(CallError::on("make the cgroup", &name)(errno)),
        }
        let directory = openat(top, name.as_str(), DIRECTORY, Mode::empty());
        Ok(Cgroup { directory: directory.map_err(CallError::on("open the cgroup", &name))? })
    }

    fn hand_down_controllers(&mut self) -> Result<(), CallError> {
        if self.handed_down {
            return Ok(());
        }
        match self.top.set("cgroup.subtree_control", "+memory") {
            Ok(()) => {}
            // This is how the kernel says that it has no such controller; then there are no limits to set.
            Err(error) if error.errno() == Some(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
        self.handed_down = true;
        Ok(())
    }
}

impl Cgroup {
    /// Writes a control file.
    ///
    /// # Errors
    /// [`CallError`] with the file's name.
    pub(crate) fn set(&self, file: &str, value: &str) -> Result<(), CallError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let opened =
            openat(&self.directory, file, flags, Mode::empty()).map_err(CallError::on("open", file))?;
        File::from(opened).write_all(value.as_bytes()).map_err(CallError::io("write", file))
    }

    /// Kills every process in it, and in the cgroups made inside it.
    ///
    /// # Errors
    /// [`CallError`], on kernels before 5.14 for want of `cgroup.kill`.
    pub(crate) fn kill(&self) -> Result<(), CallError> {
        self.set("cgroup.kill", "1")
    }

    /// Whether the OOM killer ended a process in it or inside it.
    pub(crate) fn had_oom_kill(&self) -> bool {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let Ok(file) = openat(&self.directory, "memory.events", flags, Mode::empty()) else { return false };
        let mut bytes = [0; MAX_EVENTS];
        let count = File::from(file).read(&mut bytes).unwrap_or(0);
        let text = std::str::from_utf8(bytes.get(..count).unwrap_or_default()).unwrap_or_default();
        counts_oom_kill(text)
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn counts_oom_kill(memory_events: &str) -> bool {
    let count = memory_events.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.is_some_and(|count| count.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::counts_oom_kill;

    const QUIET: &str = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 0\noom_group_kill 0\n";

    #[test]
    fn an_oom_kill_is_told_from_an_oom_that_killed_nobody() {
        assert!(!counts_oom_kill(QUIET));
        assert!(counts_oom_kill(&QUIET.replace("oom_kill 0", "oom_kill 1")));
    }

    #[test]
    fn a_kernel_without_the_file_or_the_line_had_none() {
        assert!(!counts_oom_kill(""));
        assert!(!counts_oom_kill("oom_group_kill 1\n"));
    }
}
