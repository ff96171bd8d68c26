//! A VM whose changes are pushed to us, for as long as it takes and whatever becomes of its monitor.

use firstlight_host_ctl::monitor::client::{Connection, Update};
use firstlight_host_ctl::vm::fold::Boot;
use firstlight_host_ctl::vm::vm_dir::name;
use firstlight_host_ctl::vm::{VmDir, VmView};
use firstlight_protocol::lifecycle::State;

use crate::output::{Code, Failure};
use crate::watch::Watch;

/// How often a monitor may end under us before we give up: each time a new one adopted the VM.
const MAX_MONITORS: u32 = 100;

/// A VM and the latest that is known of it.
pub(crate) struct Follow {
    vm: VmDir,
    connection: Connection,
    /// Monitors that ended while the VM went on.
    lost: u32,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something was recorded; the view has it.
    Changed,
    /// The program wrote something.
    Output,
    /// The boot is over and will not change any more.
    Ended,
}

impl Follow {
    /// Begins to follow a VM. On return the view is up to date.
    pub(crate) async fn open(vm: &VmDir) -> Result<Follow, Failure> {
        Ok(Follow { vm: vm.clone(), connection: connect(vm).await?, lost: 0 })
    }

    /// Goes on with a connection that is subscribed.
    pub(crate) fn resume(vm: &VmDir, connection: Connection) -> Follow {
        Follow { vm: vm.clone(), connection, lost: 0 }
    }

    /// The VM as of the last step.
    pub(crate) fn view(&self) -> VmView {
        self.connection.view()
    }

    /// The connection, to ask the monitor for something.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Waits for the next step. Safe to drop and call again.
    pub(crate) async fn next(&mut self) -> Result<Step, Failure> {
        if self.connection.is_connected() {
            match self.connection.next().await? {
                Update::Record { .. } | Update::Persisted => return Ok(Step::Changed),
                Update::Output => return Ok(Step::Output),
                Update::End => {}
            }
        }
        self.without_monitor().await
    }

    /// The monitor ended: because the boot did, because somebody killed it, or because there was none yet.
    async fn without_monitor(&mut self) -> Result<Step, Failure> {
        if self.view().timings.vmm_exited.is_some() {
            // All was said. The VM may even be removed by now.
            return Ok(Step::Ended);
        }
        if !self.vm.file(name::SPEC).exists() {
            let name = &self.vm.spec().name;
            return Err(Failure::new(Code::NoSuchVm, format!("{name} was removed")).of_vm(name));
        }
        let watch = Watch::file(&self.vm.file(name::JOURNAL))?;
        let fold = self.vm.fold()?;
        if fold.boot().is_some_and(Boot::is_closed) {
            self.connection = connect(&self.vm).await?;
            return Ok(Step::Ended);
        }
        if self.vm.view()?.state == State::Created {
            watch.changed().await?;
        } else {
            self.lost += 1;
            if self.lost > MAX_MONITORS {
                return Err(Failure::failed(format!(
                    "the monitor of {} ends again and again",
                    self.vm.spec().name
                )));
            }
        }
        self.connection = connect(&self.vm).await?;
        Ok(Step::Changed)
    }
}

async fn connect(vm: &VmDir) -> Result<Connection, Failure> {
    let mut connection = Connection::open(vm).await?;
    connection.subscribe().await?;
    Ok(connection)
}
