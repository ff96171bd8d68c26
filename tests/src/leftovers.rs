//! Proves that a lab left nothing behind.

use std::fs;
use std::path::{Path, PathBuf};

/// Fails the test if a process still refers to `dir`, or a VM's files are still in it.
///
/// # Panics
/// With a list of what is left.
#[track_caller]
pub fn assert_none(dir: &Path) {
    let processes = processes(dir);
    assert!(processes.is_empty(), "processes were left behind: {processes:#?}");
    let files = files(&dir.join("state/vms"));
    assert!(files.is_empty(), "files were left behind: {files:#?}");
}

/// Processes whose working directory, environment or arguments name `dir`, this one left out.
#[must_use]
pub fn processes(dir: &Path) -> Vec<String> {
    let needle = dir.to_str().unwrap().as_bytes().to_vec();
    let names_dir = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let pid = entry.file_name().into_string().unwrap_or_default();
        if !pid.bytes().all(|byte| byte.is_ascii_digit()) || pid == own {
            continue;
        }
        let cmdline = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // A process that is past its last instruction has no memory left to show, and needs no one to end it.
        if cmdline.is_empty() {
            continue;
        }
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if names_dir(&cmdline) || names_dir(&environ) || cwd.starts_with(dir) {
            found.push(format!("{pid}: {}", String::from_utf8_lossy(&cmdline).replace('\0', " ")));
        }
    }
    found
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}
