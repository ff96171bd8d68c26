//! Taking a snapshot of a VM that runs: its monitor saves it into a draft, which is then sealed and shown.

use super::manifest::{Disk, Manifest};
use super::platform::Platform;
use super::{Obstacle, SnapshotDraft, SnapshotError, Snapshots};
use crate::monitor::client::{ClientError, Connection, Update};
use crate::monitor::wire::Request;
use crate::vm::record::SaveFailure;
use crate::vm::{Entry, VmDir};

/// There is no snapshot. The VM goes on, unless it has ended.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The VM cannot be saved, whatever it does.
    #[error("it cannot be saved: {0}")]
    Obstacle(Obstacle),
    /// Its monitor could not save it.
    #[error("it was not saved, and goes on: {0}")]
    Failed(SaveFailure),
    /// It, or its monitor, ended.
    #[error("it was not saved: its monitor ended, or the VM did")]
    Ended,
    /// Its monitor cannot be spoken to, or refused.
    #[error(transparent)]
    Monitor(#[from] ClientError),
    /// The snapshot cannot be made.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// Saves `vm` as the snapshot `name`. Connections to it end, and it stands still for some seconds.
///
/// # Errors
/// [`TakeError`]; nothing is left then.
pub async fn take(vm: &VmDir, snapshots: &Snapshots, name: &str) -> Result<Manifest, TakeError> {
    let boot = vm.fold().map_err(ClientError::from)?.boot().and_then(Obstacle::of_boot);
    if let Some(obstacle) = Obstacle::of(vm.spec()).or(boot) {
        return Err(TakeError::Obstacle(obstacle));
    }
    let mut connection = Connection::open(vm).await?;
    connection.subscribe().await?;
    let platform = Platform::of(vm.spec(), None).await?;
    let draft = snapshots.draft(name)?;
    let disks = save(&mut connection, &draft).await?;
    let vm = vm.clone();
    // It reads all that was written.
    let committed = tokio::task::spawn_blocking(move || draft.commit(&vm, disks, platform)).await;
    committed.unwrap_or(Err(SnapshotError::Interrupted)).map_err(TakeError::from)
}

/// Asks the monitor for it and waits for what becomes of it; the monitor has a deadline for each step.
async fn save(connection: &mut Connection, draft: &SnapshotDraft) -> Result<Vec<Disk>, TakeError> {
    connection.request(&Request::Snapshot { draft: draft.dir().to_owned() }).await?;
    loop {
        match connection.next().await? {
            Update::Record { record, .. } => {
                if let Entry::SaveEnded { failure, disks } = record.entry {
                    return failure.map_or(Ok(disks), |failure| Err(TakeError::Failed(failure)));
                }
            }
            Update::Output | Update::Persisted => {}
            Update::End => return Err(TakeError::Ended),
        }
    }
}
