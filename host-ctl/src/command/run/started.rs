//! A VM on its way to its first boot. Until it has started it leaves nothing behind.

use std::time::Duration;

use firstlight_host_ctl::monitor::client;
use firstlight_host_ctl::monitor::wire::Request;
use firstlight_host_ctl::operation::Operation;
use firstlight_host_ctl::vm::{Store, VmDir, VmView};

use super::super::rm::remove_by_force;
use super::super::stop::end;
use crate::cli::value::duration;
use crate::follow::{Follow, Step};
use crate::output::{self, Code, Failure};
use crate::progress;

/// A VM that is made but has not started. Dropping it removes it.
pub(in crate::command) struct Unstarted<'a> {
    store: &'a Store,
    vm: Option<VmDir>,
}

impl<'a> Unstarted<'a> {
    pub(in crate::command) fn new(store: &'a Store, vm: VmDir) -> Unstarted<'a> {
        Unstarted { store, vm: Some(vm) }
    }

    /// Starts it. One that cannot be started is removed: what is left would be half a VM.
    pub(in crate::command) async fn start(mut self) -> Result<Started<'a>, Failure> {
        let Some(vm) = self.vm.take() else { return Err(Failure::failed("the VM was started already")) };
        let started = Started { store: self.store, vm };
        if let Err(error) = client::start(&started.vm).await {
            started.remove().await;
            return Err(error.into());
        }
        Ok(started)
    }
}

impl Drop for Unstarted<'_> {
    fn drop(&mut self) {
        if let Some(vm) = self.vm.take() {
            // It never ran, so there is nothing to end; what cannot be removed shows in `ps -a` as created.
            let _ = self.store.remove(&vm);
        }
    }
}

/// A VM that has started.
pub(in crate::command) struct Started<'a> {
    store: &'a Store,
    pub(in crate::command) vm: VmDir,
}

impl Started<'_> {
    /// Waits until the VM is Running, or has been: a short program may have ended by the time it is looked at. Gives the
    /// last view, which is of one that ended before if it has no time of that. `show` sees each change.
    pub(in crate::command) async fn reach_running(
        &self,
        mut show: impl FnMut(&VmView),
    ) -> Result<VmView, Failure> {
        let mut follow = Follow::open(&self.vm).await?;
        loop {
            let view = follow.view();
            show(&view);
            if view.timings.running.is_some() || view.state.is_final() {
                return Ok(view);
            }
            if follow.next().await? == Step::Ended {
                return Ok(follow.view());
            }
        }
    }

    /// Ends it because it took longer than `limit` to run, and says how far it had come.
    pub(in crate::command) async fn too_slow(&self, limit: Duration) -> Failure {
        let name = &self.vm.spec().name;
        let reached = self.vm.view().map_or_else(|_| "unknown".to_owned(), |view| progress::describe(&view));
        if let Err(failure) = end(&self.vm, Operation::Kill, &Request::Kill).await {
            output::note(format_args!("warning: {name} is not ended: {}", failure.message()));
        }
        let message = format!("{name} was {reached} after {} and was ended", duration::show(limit));
        Failure::new(Code::TimedOut, message)
            .of_vm(name)
            .hint(format!("its console: host-ctl logs --all {name}; more time: --timeout"))
    }

    /// Ends and removes it.
    pub(in crate::command) async fn remove(&self) {
        if let Err(failure) = remove_by_force(self.store, &self.vm).await {
            output::note(format_args!(
                "warning: {} is not removed: {}",
                self.vm.spec().name,
                failure.message()
            ));
        }
    }
}
