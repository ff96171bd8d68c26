//! Saving the guest that runs, from its first word to its going on.
//!
//! ```text
//!  agent: prepare ─► unplug vsock ─► pause ─► memory, disks ─► plug vsock ─► go on ─► agent: thaw
//!       │                 └───────────┴── whatever fails ──────►┘                          ▲
//!       └── the guest's own watchdog, should we be killed ─────────────────────────────────┘
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use firstlight_protocol::boot_spec::BootSpec;
use firstlight_protocol::message::snapshot::{SnapshotPrepareRequest, SnapshotPrepared};
use tokio::task::spawn_blocking;
use tokio::time::{Duration, Instant};

use super::agent_calls::{self, Agent};
use super::files;
use crate::agent::{Connection, Error};
use crate::driver::config::{DiskConfig, VsockConfig};
use crate::driver::qemu::qmp::{Qmp, QmpError, RunState};
use crate::driver::qemu::{memory, vsock};
use crate::snapshot::manifest::Disk;
use crate::snapshot::saved::TimedStep;
use crate::snapshot::{Saved, SnapshotError, disks, name, sparse};
use crate::vm::record::{SaveFailure, SaveFault};

/// How long requests under way in the guest may take to finish.
const DRAIN: Duration = Duration::from_secs(5);

/// After how long the guest goes on by itself. Its clock stands still with it, so only what happens before the pause and
/// after it counts.
const WATCHDOG: Duration = Duration::from_secs(30);

/// How long the guest may take to get ready: to drain, and to write what its file systems have not yet.
const PREPARE_DEADLINE: Duration = Duration::from_secs(25);

/// How often a guest is let go on that another monitor held, until it does.
const RECOVERY_ATTEMPTS: u32 = 3;

/// What is to be saved, and where.
#[derive(Debug)]
pub(super) struct Job {
    /// The draft of the snapshot.
    pub(super) draft: PathBuf,
    /// The VMM's process.
    pub(super) vmm: u32,
    pub(super) agent: Agent,
    pub(super) vsock: VsockConfig,
    pub(super) disks: Vec<DiskConfig>,
    pub(super) boot: BootSpec,
    /// Bytes of the guest's memory.
    pub(super) memory: u64,
}

/// Saves the guest. When this returns it goes on, saved or not.
pub(super) async fn run(job: Job, qmp: &mut Qmp) -> Result<Vec<Disk>, SaveFailure> {
    let (connection, prepared) = prepare(&job.agent).await.map_err(|error| guest_failure(&error))?;
    let saved = write(&job, qmp, connection, &prepared).await;
    let resumed = go_on(qmp, job.vsock).await;
    agent_calls::thaw(job.agent).await;
    resumed.map_err(|error| failure(SaveFault::Vmm, &error))?;
    saved
}

/// Lets a guest move again whose save, or restore, another monitor did not live to end, and takes its vsock away.
pub(super) async fn let_move(qmp: &mut Qmp) -> Result<(), QmpError> {
    for _ in 0..RECOVERY_ATTEMPTS {
        memory::cancel(qmp).await?;
        // Only a guest that moves lets go of a device.
        memory::resume(qmp).await?;
        vsock::unplug(qmp).await?;
        // QEMU may have carried out what the other monitor said last only after what we said first.
        if qmp.run_state().await? == RunState::Running && !memory::is_moving(qmp).await? {
            return Ok(());
        }
    }
    Err(QmpError::Timeout("let the guest go on"))
}

/// Gives the guest its vsock, and lets it move.
pub(super) async fn go_on(qmp: &mut Qmp, vsock: VsockConfig) -> Result<(), QmpError> {
    // A guest without a vsock can still be stopped; one that stands still cannot.
    let plugged = vsock::plug(qmp, vsock).await;
    memory::resume(qmp).await?;
    plugged
}

async fn prepare(agent: &Agent) -> Result<(Connection, SnapshotPrepared), Error> {
    let deadline = Instant::now() + PREPARE_DEADLINE;
    let mut connection = Connection::open(&agent.address, &agent.token, deadline).await?;
    let ms = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    let request = SnapshotPrepareRequest { drain_ms: ms(DRAIN), watchdog_ms: ms(WATCHDOG) };
    let prepared = connection.request(&request, deadline).await?;
    Ok((connection, prepared))
}

async fn write(
    job: &Job,
    qmp: &mut Qmp,
    connection: Connection,
    prepared: &SnapshotPrepared,
) -> Result<Vec<Disk>, SaveFailure> {
    let vmm = |error: QmpError| failure(SaveFault::Vmm, &error);
    let path = job.draft.join(name::DEVICES);
    let file = File::options().write(true).create_new(true).open(&path);
    let file = file.map_err(|error| file_failure(&SnapshotError::io("make", &path)(error)))?;
    let ram = memory::ram(job.vmm).map_err(|error| failure(SaveFault::Vmm, &error))?;
    job.agent.road.replug(job.vsock);
    vsock::unplug(qmp).await.map_err(vmm)?;
    // Not before: a connection that is being closed while its device goes haunts the guest for eight seconds
    // (`VSOCK_CLOSE_TIMEOUT` in its kernel), and a new backend gives its number to another.
    drop(connection);
    memory::pause(qmp).await.map_err(vmm)?;
    match memory::save(qmp, file, job.memory).await {
        Ok(()) => {}
        Err(error @ QmpError::Migration { .. }) if is_full(&path) => {
            return Err(failure(SaveFault::DiskFull, &error));
        }
        Err(error) => return Err(vmm(error)),
    }
    let (disks, draft, length) = (job.disks.clone(), job.draft.clone(), job.memory);
    let kept = spawn_blocking(move || {
        keep_memory(&ram, length, &draft.join(name::MEMORY))?;
        disks::keep(&disks, &draft)
    });
    let kept = kept.await;
    let kept =
        kept.map_err(|error| failure(SaveFault::File, &error))?.map_err(|error| file_failure(&error))?;
    write_guest(job, prepared).map_err(|error| file_failure(&error))?;
    Ok(kept)
}

/// Keeps the memory of a guest that stands still.
fn keep_memory(ram: &File, length: u64, path: &Path) -> Result<(), SnapshotError> {
    let failed = |error| SnapshotError::io("write the guest's memory to", path)(error);
    let file = File::options().write(true).create_new(true).open(path).map_err(failed)?;
    file.set_len(length).and_then(|()| sparse::fill(&file, ram, length)).map_err(failed)
}

fn write_guest(job: &Job, prepared: &SnapshotPrepared) -> Result<(), SnapshotError> {
    let saved = Saved {
        boot: job.boot.clone(),
        stdout: prepared.output.stdout,
        stderr: prepared.output.stderr,
        steps: prepared.steps.iter().map(TimedStep::from).collect(),
    };
    let path = job.draft.join(name::GUEST);
    let text = serde_json::to_vec_pretty(&saved)
        .map_err(|error| SnapshotError::io("encode", &path)(error.into()))?;
    files::write_private(&path, &text).map_err(SnapshotError::io("write", &path))
}

fn guest_failure(error: &Error) -> SaveFailure {
    SaveFailure { kind: SaveFault::Guest, reason: format!("the guest did not get ready: {error}") }
}

fn failure(kind: SaveFault, error: &impl std::fmt::Display) -> SaveFailure {
    SaveFailure { kind, reason: error.to_string() }
}

fn file_failure(error: &SnapshotError) -> SaveFailure {
    let full = match error {
        SnapshotError::Io { source, .. } => is_out_of_room(source),
        SnapshotError::NameTaken { .. }
        | SnapshotError::NotFound { .. }
        | SnapshotError::BadName { .. }
        | SnapshotError::Corrupt { .. }
        | SnapshotError::Mismatch { .. }
        | SnapshotError::Unmappable { .. }
        | SnapshotError::Network(_)
        | SnapshotError::Overlay { .. }
        | SnapshotError::Interrupted
        | SnapshotError::Store(_) => false,
    };
    failure(if full { SaveFault::DiskFull } else { SaveFault::File }, error)
}

/// Whether the disk takes no more: found out by writing, because QEMU says it in words only.
fn is_full(path: &Path) -> bool {
    use std::io::Write as _;
    let appended = File::options().append(true).open(path).and_then(|mut file| file.write_all(&[0; 1 << 16]));
    appended.is_err_and(|error| is_out_of_room(&error))
}

fn is_out_of_room(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        assert!(is_full(Path::new("/dev/full")));
        assert!(!is_full(Path::new("/dev/null")));
        let full = SnapshotError::io("copy", Path::new("x"))(std::io::ErrorKind::StorageFull.into());
        assert_eq!(file_failure(&full).kind, SaveFault::DiskFull);
        let denied = SnapshotError::io("copy", Path::new("x"))(std::io::ErrorKind::PermissionDenied.into());
        assert_eq!(file_failure(&denied).kind, SaveFault::File);
    }
}
