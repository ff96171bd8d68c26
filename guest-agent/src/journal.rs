//! The agent's own words, one line each on standard error: init's console, or systemd's journal.
//!
//! Only what concerns the agent as a whole is said here. Failures of one connection go to its peer, who can do
//! something about them and cannot flood the console with them.

use std::fmt::Display;
use std::io::Write;

/// Says one line. A console that is gone is nobody's concern.
pub fn say(message: &dyn Display) {
    let _ = writeln!(std::io::stderr(), "guest-agent: {message}");
}
