//! Processes of the host that belong to a lab, found and killed by pid.

use std::path::Path;
use std::process::Command;

/// The pid of the monitor of the VM in `vm_dir`, if one lives.
#[must_use]
pub fn monitor_of(vm_dir: &Path) -> Option<u32> {
    let is_monitor = |pid: &u32| {
        let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = cmdline.split(|byte| *byte == 0).collect();
        let names_vm = |word: &&[u8]| Path::new(&*String::from_utf8_lossy(word)) == vm_dir;
        words.get(1).is_some_and(|word| *word == b"monitor") && words.iter().any(names_vm)
    };
    all().into_iter().find(is_monitor)
}

/// Kills `pid` with SIGKILL and waits until it is gone.
#[track_caller]
pub fn kill(pid: u32) {
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success(), "kill -9 {pid}");
    // Not a child of ours, so there is nothing to wait on. The kernel needs no more than a moment.
    while is_alive(pid) {
        std::thread::yield_now();
    }
}

/// Whether process `pid` runs; a zombie does not, once the last of its threads has ended and with it what they had open.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    let leader = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    leader.is_ok_and(|stat| !stat.contains(") Z") || threads > 1)
}

fn all() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
