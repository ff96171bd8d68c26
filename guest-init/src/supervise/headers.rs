//! The headers worker, from its start to what is said of its end. Nothing that happens to it fails anything else.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use firstlight_protocol::boot_spec::Headers;
use firstlight_protocol::headers::{STATUS_PATH, State, Status};
use firstlight_protocol::sentinel::{Event, ExitStatus};
use nix::unistd::Pid;

use super::words;
use crate::error::Fault;
use crate::headers::announce;
use crate::stage::cgroup::Cgroups;
use crate::stage::headers::start;

/// The most bytes of a status: a state and a sentence.
const MAX_STATUS: u64 = 16 << 10;

/// The worker while it runs.
#[derive(Debug)]
pub(super) struct Keeper(Pid);

impl Keeper {
    /// Starts the worker; gives what is to be said.
    pub(super) fn start(
        headers: &Headers,
        cgroups: &mut Cgroups,
        null: BorrowedFd<'_>,
        console: BorrowedFd<'_>,
    ) -> (Option<Keeper>, Event) {
        match start(headers, cgroups, null, console) {
            Ok(pid) => (Some(Keeper(pid)), Event::HeadersStart),
            Err(error) => (None, failed(Fault::from(error).to_string())),
        }
    }

    /// A process was reaped. Gives what is to be said when it was the worker.
    pub(super) fn on_exit(&self, pid: Pid, status: ExitStatus) -> Option<Event> {
        (pid == self.0).then(|| outcome(&words(status)))
    }
}

/// What is to be said of a worker that has ended, `how` in words.
pub(crate) fn outcome(how: &str) -> Event {
    let said = read_status().unwrap_or_else(|| Status::of(State::Running));
    let reason = said.reason.unwrap_or_default();
    match said.state {
        State::Ready => Event::HeadersReady,
        State::Skipped => Event::HeadersSkipped { reason },
        State::Failed => Event::HeadersFailed { error: reason },
        State::Pending | State::Running => failed(format!("the worker ended without a result ({how})")),
    }
}

/// A failure that the worker cannot tell itself, said to programs in the guest as well.
fn failed(error: String) -> Event {
    // Without the file the host still hears of it.
    let _ = announce(&Status::failed(error.clone()));
    Event::HeadersFailed { error }
}

fn read_status() -> Option<Status> {
    let mut bytes = Vec::new();
    File::open(STATUS_PATH).ok()?.take(MAX_STATUS).read_to_end(&mut bytes).ok()?;
    Status::from_json(&bytes)
}
