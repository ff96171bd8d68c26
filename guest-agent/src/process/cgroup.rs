//! A cgroup of its own for each command, so that all it started can be killed, and an OOM kill be told from any other
//! SIGKILL.
//!
//! All of it is best effort: a guest without cgroup v2 runs commands just as well. Source: the kernel's
//! `Documentation/admin-guide/cgroup-v2.rst`.

use std::fs::{self, File, OpenOptions};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Where init mounts cgroup v2.
pub(super) const MOUNT_POINT: &str = "/sys/fs/cgroup";

/// The group that commands' groups are in, below the mount point. Both have to pass the memory controller on.
const COMMANDS: &str = "firstlight-exec";

/// Makes groups for commands.
#[derive(Debug)]
pub(super) struct Cgroups {
    base: PathBuf,
    next: AtomicU64,
    leftovers: Arc<Mutex<Vec<PathBuf>>>,
}

/// One command's group.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    leftovers: Arc<Mutex<Vec<PathBuf>>>,
}

impl Cgroups {
    /// Prepares the hierarchy mounted at `mount_point`, or gives `None` when there is none.
    pub(super) fn open(mount_point: &Path) -> Option<Cgroups> {
        pass_memory_on(mount_point)?;
        let base = mount_point.join(COMMANDS);
        fs::create_dir_all(&base).ok()?;
        pass_memory_on(&base)?;
        Some(Cgroups { base, next: AtomicU64::new(1), leftovers: Arc::default() })
    }

    /// Makes a group for the next command.
    pub(super) fn create(&self) -> Option<Cgroup> {
        self.sweep();
        // The process id keeps apart the groups of an agent that died and of its successor.
        let name = format!("{}-{}", std::process::id(), self.next.fetch_add(1, Ordering::Relaxed));
        let path = self.base.join(name);
        fs::create_dir(&path).ok()?;
        Some(Cgroup { path, leftovers: Arc::clone(&self.leftovers) })
    }

    /// Removes the groups of ended commands whose last background child has ended since.
    fn sweep(&self) {
        let mut leftovers = self.leftovers.lock().unwrap_or_else(PoisonError::into_inner);
        leftovers.retain(|path| fs::remove_dir(path).is_err());
    }
}

fn pass_memory_on(group: &Path) -> Option<()> {
    fs::write(group.join("cgroup.subtree_control"), "+memory").ok()
}

impl Cgroup {
    /// What a process writes `0` to in order to join.
    pub(super) fn entrance(&self) -> Option<OwnedFd> {
        let procs: File = OpenOptions::new().write(true).open(self.path.join("cgroup.procs")).ok()?;
        Some(procs.into())
    }

    /// Kills every process of the group, whatever process group it moved to. Whether the kernel could: `cgroup.kill` is
    /// younger than cgroup v2.
    pub(super) fn kill(&self) -> bool {
        fs::write(self.path.join("cgroup.kill"), "1").is_ok()
    }

    /// Whether the kernel's OOM killer ended a process of the group.
    pub(super) fn was_out_of_memory(&self) -> bool {
        fs::read_to_string(self.path.join("memory.events")).is_ok_and(|events| oom_kills(&events) > 0)
    }
}

impl Drop for Cgroup {
    /// Removes the group, or leaves that for later while a background child is still in it.
    fn drop(&mut self) {
        if fs::remove_dir(&self.path).is_err() {
            let mut leftovers = self.leftovers.lock().unwrap_or_else(PoisonError::into_inner);
            leftovers.push(std::mem::take(&mut self.path));
        }
    }
}

/// The `oom_kill` count of a `memory.events` file.
fn oom_kills(events: &str) -> u64 {
    let counts = events.lines().filter_map(|line| line.split_once(' '));
    counts.filter(|(name, _)| *name == "oom_kill").filter_map(|(_, count)| count.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_oom_kills_count() {
        let events = "low 1\nhigh 2\nmax 3\noom 4\noom_kill 0\noom_group_kill 5\n";
        assert_eq!(oom_kills(events), 0);
        assert_eq!(oom_kills(&events.replace("oom_kill 0", "oom_kill 2")), 2);
        assert_eq!(oom_kills(""), 0);
    }

    #[test]
    fn without_a_cgroup_file_system_there_are_no_groups() {
        assert!(Cgroups::open(Path::new("/no/such/mount")).is_none());
    }
}
