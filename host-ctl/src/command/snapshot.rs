//! `snapshot NAME SNAP`

use clap::Args;
use firstlight_host_ctl::monitor::client::Connection;
use firstlight_host_ctl::operation::Operation;
use firstlight_host_ctl::snapshot::{Manifest, SnapshotError, Snapshots, TakeError, take};
use firstlight_host_ctl::vm::Store;
use firstlight_host_ctl::vm::record::{SaveFailure, SaveFault};

use super::explain::require;
use crate::cli::resolved::Context;
use crate::output::{self, Code, Failure, Format};

/// Save a running VM's memory and disks at one instant
///
/// The VM goes on afterwards. Connections to it end: an exec, a copy or a forward has to be started again. Only a VM
/// that was run with --snapshot can be saved.
#[derive(Debug, Args)]
#[command(after_help = "Example: host-ctl snapshot web ready && host-ctl restore ready --name web2")]
pub(crate) struct Snapshot {
    /// The VM: a name, or a unique beginning of an id
    name: String,

    /// What the snapshot is to be called
    #[arg(value_name = "SNAP")]
    snapshot: String,
}

impl Snapshot {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let store = Store::open(&context.state_dir)?;
        let vm = store.resolve(&self.name)?;
        let mut connection = Connection::open(&vm).await?;
        connection.subscribe().await?;
        require(Operation::Snapshot, &connection.view())?;
        let taken = take(&vm, &Snapshots::open(&store)?, &self.snapshot).await;
        say(&taken.map_err(|error| untaken(error, &vm.spec().name))?, context)
    }
}

fn untaken(error: TakeError, name: &str) -> Failure {
    let failure = match error {
        TakeError::Obstacle(obstacle) => {
            Failure::new(Code::WrongState, format!("{name} cannot be saved: {obstacle}"))
                .hint(obstacle.hint())
        }
        TakeError::Failed(failure) => failed(&failure, name),
        TakeError::Ended => {
            let message = format!("{name} was not saved: its monitor ended, or the VM did");
            let hint = format!("see whether it still runs: host-ctl inspect {name}");
            Failure::new(Code::Unreachable, message).hint(hint)
        }
        TakeError::Monitor(error) => return error.into(),
        TakeError::Snapshot(error) => error.into(),
    };
    failure.of_vm(name)
}

fn failed(failure: &SaveFailure, vm: &str) -> Failure {
    let message = format!("{vm} was not saved, and goes on: {failure}");
    let (code, hint) = match failure.kind {
        SaveFault::DiskFull => {
            (Code::DiskFull, "make room in the state directory, or choose another with --state-dir")
        }
        SaveFault::Guest => (Code::Unreachable, "wait until what runs in it is done, and try again"),
        SaveFault::Vmm => (Code::Failed, "its words: boot/vmm.log in the VM's directory"),
        SaveFault::File => (Code::Failed, "host-ctl doctor checks the state directory"),
        SaveFault::Interrupted => (Code::Failed, "try again"),
    };
    Failure::new(code, message).hint(hint)
}

fn say(manifest: &Manifest, context: &Context) -> Result<(), Failure> {
    match context.format {
        Format::Text => output::line(&manifest.name),
        Format::Json => output::json_line(&super::snapshots::Row::of(manifest)),
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Failure {
        use std::io::ErrorKind;
        let message = error.to_string();
        match error {
            SnapshotError::NameTaken { .. } => Failure::new(Code::NameTaken, message),
            SnapshotError::NotFound { .. } => Failure::new(Code::NoSuchVm, message),
            SnapshotError::BadName { .. } | SnapshotError::Network(_) => Failure::usage(message),
            SnapshotError::Corrupt { name, .. } => Failure::new(Code::Corrupt, message)
                .hint(format!("remove it with `host-ctl snapshots rm {name}`, and take it anew")),
            SnapshotError::Mismatch { .. } => Failure::new(Code::Mismatch, message),
            SnapshotError::Unmappable { .. } => Failure::usage(message),
            SnapshotError::Io { source, .. }
                if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
            {
                Failure::new(Code::DiskFull, message)
            }
            SnapshotError::Overlay { .. } | SnapshotError::Interrupted | SnapshotError::Io { .. } => {
                Failure::failed(message)
            }
            SnapshotError::Store(error) => error.into(),
        }
    }
}
