//! On which of the host's processors a VM runs.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread, which others name so.
const SELF: Pid = Pid::from_raw(0);

/// Has what this thread starts run on one processor, until it is dropped. Source: `sched_setaffinity(2)`; a child inherits it.
pub(crate) struct OneProcessor {
    before: CpuSet,
}

impl OneProcessor {
    /// The last of those this thread may run on.
    pub(crate) fn keep() -> OneProcessor {
        let before = sched_getaffinity(SELF)
            .unwrap_or_else(|errno| panic!("cannot tell which processors there are: {errno}"));
        let last = (0..CpuSet::count()).rev().find(|&processor| before.is_set(processor) == Ok(true));
        let mut one = CpuSet::new();
        let set = last.map_or(Ok(()), |last| one.set(last)).and_then(|()| sched_setaffinity(SELF, &one));
        set.unwrap_or_else(|errno| panic!("cannot keep to one processor: {errno}"));
        OneProcessor { before }
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        // It was so before, so it can be so again.
        let _ = sched_setaffinity(SELF, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_has_one_processor_and_what_comes_after_has_all() {
        let allowed = || {
            let status = std::process::Command::new("cat").arg("/proc/self/status").output().unwrap();
            let status = String::from_utf8(status.stdout).unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:"));
            let mask = line.unwrap().trim().replace(',', "");
            mask.chars().filter_map(|digit| digit.to_digit(16)).map(u32::count_ones).sum::<u32>()
        };
        let before = allowed();
        let kept = OneProcessor::keep();
        assert_eq!(allowed(), 1);
        drop(kept);
        assert_eq!(allowed(), before);
    }
}
