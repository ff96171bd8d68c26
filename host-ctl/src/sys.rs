//! The only `unsafe` of this crate: what a child does between `fork(2)` and `execve(2)`.
#![allow(unsafe_code, reason = "the one module for it; each block says why it is sound")]

use std::process::Command;

/// Lets the command's child begin a session of its own, so that neither a terminal's signals nor its hang-up reach
/// it.
pub(crate) fn in_own_session(command: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    // SAFETY: setsid(2) is async-signal-safe, and the closure allocates nothing.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into));
    }
}
