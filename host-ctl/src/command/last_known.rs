//! A VM's view, with what was known last where nothing can be said now.

use std::time::Duration;

use firstlight_host_ctl::clock::Stamp;
use firstlight_host_ctl::vm::view::Liveness;
use firstlight_host_ctl::vm::vm_dir::VmDirError;
use firstlight_host_ctl::vm::{VmDir, VmView};
use firstlight_protocol::lifecycle::State;
use serde::Serialize;

/// What `ps --json` and `inspect` show of a VM.
#[derive(Debug, Serialize)]
pub(crate) struct LastKnown {
    #[serde(flatten)]
    pub(crate) view: VmView,
    /// The state as of the last record, `age_ms` ago, when the VM cannot be looked at.
    pub(crate) last_known: Option<&'static str>,
    /// How long ago the VM was made, by the wall clock.
    #[serde(skip)]
    pub(crate) age: Duration,
}

impl LastKnown {
    pub(crate) fn of(vm: &VmDir) -> Result<LastKnown, VmDirError> {
        let fold = vm.fold()?;
        let view = VmView::new(vm.spec(), &fold, vm.liveness(&fold));
        let last_known = match view.state {
            State::Unknown => Some(fold.state(Liveness::Alive, vm.spec().skip_guest_agent).name()),
            State::Created
            | State::Initializing
            | State::Running
            | State::Paused
            | State::Stopping
            | State::Stopped
            | State::Failed { .. } => None,
        };
        let now = Stamp::now().wall_ns;
        let age = now.saturating_sub(fold.created().map_or(now, |created| created.wall_ns));
        Ok(LastKnown { view, last_known, age: Duration::from_nanos(age) })
    }
}
