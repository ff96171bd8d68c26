//! The serial console's thread: the only one that a full UART makes wait.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::PoisonError;

use nix::sys::termios::tcdrain;

use super::Shared;
use crate::wait::lock;

/// Writes every line of the log, each with one `write(2)`, until the log is closed and all are written.
pub(super) fn follow(shared: &Shared) {
    let Some(mut console) = shared.console.as_ref() else { return lock(&shared.log).console.end() };
    let mut log = lock(&shared.log);
    loop {
        let generation = log.generation();
        let line = log.line_at(log.console_taken).to_vec();
        if !line.is_empty() {
            drop(log);
            // A console that cannot be written is no reason to end a boot, nor is there anywhere to say so.
            let _ = console.write_all(&line);
            log = lock(&shared.log);
            // A log that was begun anew meanwhile has been taken by nobody.
            if log.generation() == generation {
                log.console_taken += line.len();
            }
            if log.console_has_all() {
                shared.changed.notify_all();
            }
        } else if log.closing {
            break;
        } else {
            log = shared.changed.wait(log).unwrap_or_else(PoisonError::into_inner);
        }
    }
    drop(log);
    // Power-off does not wait for the UART; this does. A console that is no terminal has nothing to drain.
    let _ = tcdrain(console.as_fd());
    lock(&shared.log).console.end();
    shared.changed.notify_all();
}
