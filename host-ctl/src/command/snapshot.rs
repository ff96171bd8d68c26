//! `snapshot NAME SNAP`

use clap::Args;
use firstlight_host_ctl::monitor::client::Connection;
use firstlight_host_ctl::monitor::wire::Request;
use firstlight_host_ctl::operation::Operation;
use firstlight_host_ctl::snapshot::manifest::{Disk, Manifest};
use firstlight_host_ctl::snapshot::platform::Platform;
use firstlight_host_ctl::snapshot::{Obstacle, SnapshotDraft, SnapshotError, Snapshots};
use firstlight_host_ctl::vm::record::{SaveFailure, SaveFault};
use firstlight_host_ctl::vm::{Entry, Store, VmDir};

use firstlight_host_ctl::monitor::client::Update;

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
        require_savable(&vm)?;
        let platform = Platform::of(vm.spec()).await?;
        let draft = Snapshots::open(&store)?.draft(&self.snapshot)?;
        let disks = save(&vm, &mut connection, &draft).await?;
        let manifest = draft
            .commit(&vm, disks, platform)
            .map_err(|error| Failure::from(error).of_vm(&vm.spec().name))?;
        say(&manifest, context)
    }
}

fn require_savable(vm: &VmDir) -> Result<(), Failure> {
    let Some(obstacle) = Obstacle::of(vm.spec()) else { return Ok(()) };
    let name = &vm.spec().name;
    let failure = Failure::new(Code::WrongState, format!("{name} cannot be saved: {obstacle}"));
    Err(failure.of_vm(name).hint(obstacle.hint()))
}

/// Asks the monitor for it and waits for what becomes of it.
async fn save(vm: &VmDir, connection: &mut Connection, draft: &SnapshotDraft) -> Result<Vec<Disk>, Failure> {
    connection.request(&Request::Snapshot { draft: draft.dir().to_owned() }).await?;
    let name = &vm.spec().name;
    loop {
        match connection.next().await? {
            Update::Record { record, .. } => {
                if let Entry::SaveEnded { failure, disks } = record.entry {
                    return failure.map_or(Ok(disks), |failure| Err(failed(&failure, name)));
                }
            }
            Update::Output | Update::Persisted => {}
            Update::End => {
                let message = format!("{name} was not saved: its monitor ended, or the VM did");
                let hint = format!("see whether it still runs: host-ctl inspect {name}");
                return Err(Failure::new(Code::Unreachable, message).of_vm(name).hint(hint));
            }
        }
    }
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
    Failure::new(code, message).of_vm(vm).hint(hint)
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
            SnapshotError::Corrupt { .. } => Failure::new(Code::Corrupt, message),
            SnapshotError::Mismatch { .. } => Failure::new(Code::Mismatch, message),
            SnapshotError::Io { source, .. }
                if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
            {
                Failure::new(Code::DiskFull, message)
            }
            SnapshotError::Overlay { .. } | SnapshotError::Io { .. } => Failure::failed(message),
            SnapshotError::Store(error) => error.into(),
        }
    }
}
