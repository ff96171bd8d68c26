//! What a service manager is told (`sd_notify(3)`): the stage of the boot, that the VM is Running, and that it ends.
//! Without `NOTIFY_SOCKET` nobody is told anything.

use firstlight_host_ctl::vm::VmView;
use firstlight_protocol::lifecycle::State;
use sd_notify::NotifyState;

use crate::progress;

/// What was told so far.
#[derive(Default)]
pub(super) struct Notify {
    status: String,
    ready: bool,
    stopping: bool,
}

impl Notify {
    /// Tells what is new in `view`.
    pub(super) fn show(&mut self, view: &VmView) {
        let status = format!("{} {}", view.name, progress::describe(view));
        if status != self.status {
            tell(&NotifyState::Status(&status));
            self.status = status;
        }
        if view.state == State::Running && !std::mem::replace(&mut self.ready, true) {
            tell(&NotifyState::Ready);
        }
        if view.state == State::Stopping {
            self.stopping();
        }
    }

    /// Tells that the end has begun.
    pub(super) fn stopping(&mut self) {
        if !std::mem::replace(&mut self.stopping, true) {
            tell(&NotifyState::Stopping);
        }
    }
}

/// A service manager that cannot be reached must not keep a VM from running.
fn tell(state: &NotifyState<'_>) {
    let _ = sd_notify::notify(std::slice::from_ref(state));
}
