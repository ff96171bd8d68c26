//! What a test needs from the machine. A missing requirement is said aloud; in CI it is a failure.

use std::io::Write as _;
use std::path::PathBuf;

/// Why VM tests cannot run here, or `None` when they can.
#[must_use]
pub fn missing() -> Option<String> {
    let host_ctl = host_ctl();
    if !host_ctl.exists() {
        return Some(format!("{} does not exist; run `make build`", host_ctl.display()));
    }
    let found = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(program).exists())
    };
    let program = ["qemu-system-x86_64", "mkfs.ext4", "mkfs.erofs"].into_iter().find(|name| !found(name));
    program.map(|name| format!("`{name}` is not installed; run `make setup`"))
}

/// Whether a test has to end here. Writes the reason past the test runner's capture; panics in CI.
#[must_use]
#[track_caller]
pub fn skip() -> bool {
    skip_for(missing())
}

/// As [`skip`], for a requirement of one test alone.
#[must_use]
#[track_caller]
pub fn skip_for(missing: Option<String>) -> bool {
    let Some(reason) = missing else { return false };
    assert!(std::env::var_os("CI").is_none(), "a requirement is missing in CI: {reason}");
    let _ = writeln!(std::io::stderr(), "SKIPPED {}: {reason}", std::panic::Location::caller());
    true
}

/// Where the build leaves `host-ctl`; `FIRSTLIGHT_HOST_CTL` names another.
#[must_use]
pub fn host_ctl() -> PathBuf {
    if let Some(path) = std::env::var_os("FIRSTLIGHT_HOST_CTL") {
        return path.into();
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    target.join("release/host-ctl")
}

/// A shared library that a test preloads, where the distribution puts it.
#[must_use]
pub fn library(name: &str) -> Option<PathBuf> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let places =
        [format!("/usr/lib/{triplet}/faketime"), "/usr/lib/faketime".into(), format!("/usr/lib/{triplet}")];
    places.iter().map(|place| PathBuf::from(place).join(name)).find(|path| path.exists())
}
