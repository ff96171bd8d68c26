//! One more line in the log that several processes share.

use std::fs::File;
use std::io::{Read, Write};

use firstlight_protocol::agent_config::EVENTS_PATH;
use firstlight_protocol::boot_spec::BootSpec;
use firstlight_protocol::sentinel::Event;
use nix::fcntl::{Flock, FlockArg};

use crate::console;
use crate::error::CallError;
use crate::report::{Signer, boot_time, last_sequence};

/// Appends the event that `choose` makes of the log so far, if it makes one, and says it on the console.
///
/// The lock has no deadline: its holders do no more than is done here, and the kernel takes it from one that dies.
///
/// # Errors
/// [`CallError`], which names the file.
pub(super) fn append(spec: &BootSpec, choose: &dyn Fn(&str) -> Option<Event>) -> Result<(), CallError> {
    let file = File::options().read(true).append(true).open(EVENTS_PATH);
    let file = file.map_err(CallError::io("open", EVENTS_PATH))?;
    let file = Flock::lock(file, FlockArg::LockExclusive);
    let mut file = file.map_err(|(_, errno)| CallError::on("lock", EVENTS_PATH)(errno))?;
    let mut log = Vec::new();
    file.read_to_end(&mut log).map_err(CallError::io("read", EVENTS_PATH))?;
    let Some(event) = choose(&String::from_utf8_lossy(&log)) else { return Ok(()) };
    let line = Signer::new(spec).line(last_sequence(&log) + 1, boot_time(), event);
    file.write_all(line.as_bytes()).map_err(CallError::io("append to", EVENTS_PATH))?;
    drop(file);
    let mut console = console::open().map_err(CallError::on("open", "/dev/console"))?;
    console::set_verbatim(&console, true);
    // A getty may have left its prompt there. A console that takes nothing is no failure: the stream carries it too.
    let _ = console.write_all(format!("\n{line}").as_bytes());
    Ok(())
}

/// Appends `event`.
///
/// # Errors
/// As [`append`].
pub(super) fn say(spec: &BootSpec, event: &Event) -> Result<(), CallError> {
    append(spec, &|_| Some(event.clone()))
}
