//! What the guest uses of its resources.
//!
//! Each file here is one subject: where its numbers are read, and a pure parser of that text.
//!
//! | file | from |
//! | --- | --- |
//! | [`cpu`] | `/proc/stat`, `/proc/loadavg` |
//! | [`memory`] | `/proc/meminfo` |
//! | [`disk`] | `/proc/diskstats` |
//! | [`filesystem`] | `/proc/self/mounts`, `statvfs(3)` |
//! | [`link`] | `/proc/net/dev` |
//! | [`pressure`] | `/proc/pressure` |
//! | [`program`] | the program's cgroup |

mod cpu;
mod disk;
mod filesystem;
mod link;
mod memory;
mod pressure;
mod program;

use firstlight_protocol::message::error::AgentError;
use firstlight_protocol::message::stats::Stats;

use crate::clock;

/// Counts everything once.
///
/// # Errors
/// When `/proc` is not there to be read, or does not say what it should.
pub fn answer() -> Result<Stats, AgentError> {
    Ok(Stats {
        at_ns: clock::boottime_ns()?,
        cpu: cpu::read()?,
        memory: memory::read()?,
        tasks: cpu::read_tasks()?,
        disks: disk::read()?,
        filesystems: filesystem::read()?,
        links: link::read()?,
        pressure: pressure::read()?,
        program: program::read()?,
    })
}

/// What is said of a file whose text is not what its documentation says.
fn unreadable(path: &str) -> AgentError {
    let malformed = std::io::Error::from_raw_os_error(libc::EBADMSG);
    crate::failure::system("parse", Some(std::path::Path::new(path)), &malformed)
}
