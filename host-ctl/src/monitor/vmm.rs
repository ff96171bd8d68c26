//! Watches the VMM: its process through a pidfd, its guest through the control connection.

use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::input::Input;
use super::save::{self, Job};
use crate::driver::VmmEvent;
use crate::driver::qemu::qmp::{Qmp, QmpError};
use crate::vm::record::{SaveFailure, SaveFault};

/// What a VMM is told.
#[derive(Debug)]
pub(super) enum VmmCommand {
    /// Hold the guest still.
    Pause,
    /// Let it go on.
    Resume,
    /// End.
    Quit,
    /// Save the guest, which goes on after it.
    Save(Box<Job>),
}

/// Watches until the process has ended, which is the last thing it tells.
pub(super) async fn watch(
    process: AsyncFd<OwnedFd>,
    mut qmp: Option<Qmp>,
    mut commands: mpsc::Receiver<VmmCommand>,
    inputs: mpsc::Sender<Input>,
) {
    loop {
        let input = tokio::select! {
            _ = process.readable() => Input::VmmGone,
            event = next_event(&mut qmp) => Input::Vmm(event),
            Some(command) = commands.recv() => {
                match obey(&mut qmp, command, &process).await {
                    Some(input) => input,
                    None => continue,
                }
            }
        };
        let gone = matches!(input, Input::VmmGone);
        if inputs.send(input).await.is_err() || gone {
            return;
        }
    }
}

/// Does what is told. The VMM may end in the middle of a save, which is not waited for then.
async fn obey(qmp: &mut Option<Qmp>, command: VmmCommand, process: &AsyncFd<OwnedFd>) -> Option<Input> {
    let name = match command {
        VmmCommand::Pause => "stop",
        VmmCommand::Resume => "cont",
        VmmCommand::Quit => "quit",
        VmmCommand::Save(job) => {
            let Some(connected) = qmp else {
                let reason = "QEMU's control connection is lost".to_owned();
                return Some(Input::Saved(Err(SaveFailure { kind: SaveFault::Vmm, reason })));
            };
            return tokio::select! {
                _ = process.readable() => Some(Input::VmmGone),
                saved = save::run(*job, connected) => Some(Input::Saved(saved)),
            };
        }
    };
    if let Some(connected) = qmp
        && connected.send(name).await.is_err()
    {
        *qmp = None;
    }
    None
}

/// The next event; waits for ever once the connection is lost, since the process's end is what then counts.
async fn next_event(qmp: &mut Option<Qmp>) -> VmmEvent {
    while let Some(connected) = qmp {
        match connected.next_event().await {
            Ok(event) => return event,
            // Such as `cont` in a state in which it means nothing: what was asked for then needs no doing.
            Err(QmpError::Refused { .. }) => {}
            Err(
                QmpError::Io { .. }
                | QmpError::Closed
                | QmpError::Protocol(_)
                | QmpError::Migration { .. }
                | QmpError::Unanswered { .. }
                | QmpError::Timeout(_),
            ) => *qmp = None,
        }
    }
    std::future::pending().await
}
