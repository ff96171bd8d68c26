//! Watches the VMM: its process through a pidfd, its guest through the control connection.

use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::input::Input;
use crate::driver::VmmEvent;
use crate::driver::qemu::qmp::{Qmp, QmpError};

/// What a VMM is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VmmCommand {
    /// Hold the guest still.
    Pause,
    /// Let it go on.
    Resume,
    /// End.
    Quit,
}

impl VmmCommand {
    fn name(self) -> &'static str {
        match self {
            VmmCommand::Pause => "stop",
            VmmCommand::Resume => "cont",
            VmmCommand::Quit => "quit",
        }
    }
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
                if let Some(connected) = &mut qmp && connected.send(command.name()).await.is_err() {
                    qmp = None;
                }
                continue;
            }
        };
        let gone = matches!(input, Input::VmmGone);
        if inputs.send(input).await.is_err() || gone {
            return;
        }
    }
}

/// The next event; waits for ever once the connection is lost, since the process's end is what then counts.
async fn next_event(qmp: &mut Option<Qmp>) -> VmmEvent {
    while let Some(connected) = qmp {
        match connected.next_event().await {
            Ok(event) => return event,
            // Such as `cont` in a state in which it means nothing: what was asked for then needs no doing.
            Err(QmpError::Refused { .. }) => {}
            Err(QmpError::Io { .. } | QmpError::Closed | QmpError::Protocol(_)) => *qmp = None,
        }
    }
    std::future::pending().await
}
