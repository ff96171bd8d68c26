//! The cgroups of what init starts. Source: the kernel's cgroup-v2 document.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::mounts::make_directory;
use crate::error::{CallError, io_errno};
use crate::wait::lock;

const TOP: &str = "/sys/fs/cgroup";

/// What hands controllers down to the cgroups.
const CONTROL: &str = "/sys/fs/cgroup/cgroup.subtree_control";

/// Bytes of `memory.events`, a handful of short lines.
const MAX_EVENTS: usize = 512;

/// A cgroup, held open so that it can be used whatever becomes of its path.
#[derive(Debug)]
pub(crate) struct Cgroup {
    directory: OwnedFd,
}

/// Held while the controllers are handed down, by whichever stage comes first.
static HANDED_DOWN: Mutex<bool> = Mutex::new(false);

impl Cgroup {
    /// Makes the cgroup `firstlight-NAME`. One cgroup for all of them would cost a boot 150,000 instructions, and each
    /// page of the program's a step more in the kernel's accounts.
    ///
    /// # Errors
    /// [`CallError`] with the file concerned.
    pub(crate) fn make(name: &str) -> Result<Cgroup, CallError> {
        hand_down_controllers(&mut lock(&HANDED_DOWN))?;
        let path = format!("{TOP}/firstlight-{name}");
        make_directory(&path, Mode::from_bits_truncate(0o755))?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory =
            nix::fcntl::open(path.as_str(), flags, Mode::empty()).map_err(CallError::on("open", &path))?;
        Ok(Cgroup { directory })
    }

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

fn hand_down_controllers(done: &mut bool) -> Result<(), CallError> {
    if *done {
        return Ok(());
    }
    let file = File::options().write(true).open(CONTROL);
    match file.and_then(|mut file| file.write_all(b"+memory")).map_err(|error| io_errno(&error)) {
        // ENOENT is how the kernel says that it has no such controller; then there are no limits to set.
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(CallError::on("enable the memory controller", CONTROL)(errno)),
    }
    *done = true;
    Ok(())
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
