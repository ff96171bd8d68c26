//! A guest's devices, into a file and out of it, and where its memory is. Source: "Migration" in QEMU's QAPI schema.
//!
//! The memory is shared with us, so we read and write it ourselves (`x-ignore-shared`): QEMU would write every page down,
//! and reading them back it would look at each, which gives even those that are all zeros a place in the host's memory.
//!
//! QEMU gets the file as a descriptor and writes it itself: with `exec:` another process would stand in between, and an
//! error at its end would be nobody's.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, memfd_create};

use serde_json::{Value, json};
use tokio::time::{Duration, timeout};

use super::qmp::{Qmp, QmpError};

/// The name under which QEMU has the file.
const DESCRIPTOR: &str = "devices";

/// What QEMU calls a file in memory that it makes for a guest; ours are called the same.
const RAM: &str = "memory-backend-memfd";

/// Bytes a second that a save may write: as many as the disk takes.
const BANDWIDTH: u64 = 1 << 40;

/// How long QEMU may take to give up a save.
const CANCEL_DEADLINE: Duration = Duration::from_secs(10);

/// How long moving `bytes` of memory may take before it counts as stuck: half a minute on a busy host, and besides that
/// 32 MiB a second, which every disk does.
#[must_use]
pub fn patience(bytes: u64) -> Duration {
    Duration::from_secs(30 + (bytes >> 25))
}

/// The memory of the guest that runs in QEMU's process `pid`: a file as long as the guest has memory. Source: `proc_pid_fd(5)`.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] when QEMU keeps it to itself.
pub fn ram(pid: u32) -> io::Result<File> {
    let descriptors = PathBuf::from(format!("/proc/{pid}/fd"));
    let wanted = format!("/memfd:{RAM}");
    for entry in fs::read_dir(&descriptors)? {
        let path = entry?.path();
        // QEMU opens and closes files meanwhile.
        if fs::read_link(&path).is_ok_and(|target| target.to_string_lossy().starts_with(&wanted)) {
            return File::open(path);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, "QEMU does not share the guest's memory"))
}

/// A memory of `bytes` zeros for a guest that is to be made.
///
/// # Errors
/// As `memfd_create(2)`.
pub fn new_ram(bytes: u64) -> io::Result<File> {
    let file = File::from(memfd_create(RAM, MemfdFlags::CLOEXEC)?);
    file.set_len(bytes)?;
    Ok(file)
}

/// Where another process finds a file of ours, while we keep it open.
#[must_use]
pub fn path_of(file: &File) -> PathBuf {
    Path::new("/proc").join(std::process::id().to_string()).join("fd").join(file.as_raw_fd().to_string())
}

/// Holds the guest still.
///
/// # Errors
/// [`QmpError`].
pub async fn pause(qmp: &mut Qmp) -> Result<(), QmpError> {
    qmp.execute("stop", json!({})).await.map(drop)
}

/// Lets the guest go on, whatever state a save has left it in.
///
/// # Errors
/// [`QmpError`].
pub async fn resume(qmp: &mut Qmp) -> Result<(), QmpError> {
    qmp.execute("cont", json!({})).await?;
    // Neither was the user's doing.
    qmp.forget(&["STOP", "RESUME"]);
    Ok(())
}

/// Writes everything the paused guest consists of, but for its disks and its `bytes` of memory.
///
/// # Errors
/// [`QmpError::Migration`] when not all could be written, [`QmpError::Timeout`] when that takes longer than
/// [`patience`]; QEMU has given it up then.
pub async fn save(qmp: &mut Qmp, file: File, bytes: u64) -> Result<(), QmpError> {
    prepare(qmp).await?;
    qmp.execute("migrate-set-parameters", json!({ "max-bandwidth": BANDWIDTH })).await?;
    qmp.give(&file, DESCRIPTOR).await?;
    drop(file);
    qmp.execute("migrate", json!({ "uri": format!("fd:{DESCRIPTOR}") })).await?;
    match timeout(patience(bytes), migrated(qmp)).await {
        Ok(saved) => saved,
        Err(_) => {
            cancel(qmp).await?;
            Err(QmpError::Timeout("write the state of the guest's devices"))
        }
    }
}

/// Makes the guest, whose memory of `bytes` is what it was, the one whose devices were saved in `file`. It stays paused.
///
/// # Errors
/// [`QmpError::Migration`] when the file is not what a machine like this one has saved, [`QmpError::Timeout`] when that
/// takes longer than [`patience`].
pub async fn load(qmp: &mut Qmp, file: File, bytes: u64) -> Result<(), QmpError> {
    prepare(qmp).await?;
    // A guest that moves from host to host announces its addresses to the network. A copy is about to get others.
    qmp.execute("migrate-set-parameters", json!({ "announce-rounds": 0 })).await?;
    qmp.give(&file, DESCRIPTOR).await?;
    drop(file);
    qmp.execute("migrate-incoming", json!({ "uri": format!("fd:{DESCRIPTOR}") })).await?;
    let loaded = timeout(patience(bytes), migrated(qmp)).await;
    loaded.unwrap_or(Err(QmpError::Timeout("read the state of the guest's devices")))
}

/// Gives up a save that another monitor has begun, if it is still under way.
///
/// # Errors
/// [`QmpError`].
pub async fn cancel(qmp: &mut Qmp) -> Result<(), QmpError> {
    qmp.forget(&["MIGRATION"]);
    // Whoever began it has asked for events; while it is under way QEMU takes no other wishes.
    if is_moving(qmp).await? {
        qmp.execute("migrate_cancel", json!({})).await?;
        match timeout(CANCEL_DEADLINE, migrated(qmp)).await {
            // However it ends, it has.
            Ok(Ok(()) | Err(QmpError::Migration { .. })) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(QmpError::Timeout("give up a save")),
        }
    }
    Ok(())
}

/// Whether a save is under way.
///
/// # Errors
/// [`QmpError`].
pub async fn is_moving(qmp: &mut Qmp) -> Result<bool, QmpError> {
    let migration = qmp.execute("query-migrate", json!({})).await?;
    let status = migration.get("status").and_then(Value::as_str);
    Ok(matches!(status, Some("setup" | "active" | "device" | "pre-switchover" | "cancelling")))
}

/// Has QEMU tell how a migration goes, and leave the memory to us. What it has told of an earlier one says nothing of the
/// next.
async fn prepare(qmp: &mut Qmp) -> Result<(), QmpError> {
    qmp.forget(&["MIGRATION"]);
    let wanted = ["events", "x-ignore-shared"].map(|name| json!({ "capability": name, "state": true }));
    qmp.execute("migrate-set-capabilities", json!({ "capabilities": wanted })).await.map(drop)
}

/// Waits for the end of a migration.
async fn migrated(qmp: &mut Qmp) -> Result<(), QmpError> {
    let ended = qmp.wait_for(|event| {
        let status = event.data.get("status").and_then(Value::as_str)?;
        let ended = event.name == "MIGRATION" && matches!(status, "completed" | "failed" | "cancelled");
        ended.then(|| status.to_owned())
    });
    if ended.await? == "completed" {
        return Ok(());
    }
    let migration = qmp.execute("query-migrate", json!({})).await?;
    let reason = migration.get("error-desc").and_then(Value::as_str);
    Err(QmpError::Migration { reason: reason.unwrap_or("QEMU does not say why").to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::qemu::fake::{GREETING, heard_by, qemu};

    const DONE: &str = "{\"return\":{},\"id\":1}\n";

    fn file() -> File {
        tempfile::tempfile().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_save_that_never_ends_is_given_up() {
        const SCRIPT: &[&str] = &[
            GREETING,
            DONE,
            "{\"return\":{},\"id\":2}\n",
            "{\"return\":{},\"id\":3}\n",
            "{\"return\":{},\"id\":4}\n",
            "{\"return\":{},\"id\":5}\n",
            "{\"return\":{\"status\":\"active\"},\"id\":6}\n",
            "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"cancelled\"}}\n{\"return\":{},\"id\":7}\n",
            "{\"return\":{},\"id\":8}\n",
        ];
        let (mut qmp, mut heard) = heard_by(SCRIPT).await;
        let error = save(&mut qmp, file(), 1 << 20).await.unwrap_err();
        assert!(matches!(error, QmpError::Timeout("write the state of the guest's devices")), "{error}");
        let mut commands = Vec::new();
        while let Ok(line) = heard.try_recv() {
            commands.push(line);
        }
        assert!(commands.iter().any(|line| line.contains("migrate_cancel")), "{commands:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_that_never_ends_fails() {
        const SCRIPT: &[&str] = &[
            GREETING,
            DONE,
            "{\"return\":{},\"id\":2}\n",
            "{\"return\":{},\"id\":3}\n",
            "{\"return\":{},\"id\":4}\n",
            "{\"return\":{},\"id\":5}\n",
        ];
        let error = load(&mut qemu(SCRIPT).await, file(), 1 << 20).await.unwrap_err();
        assert!(matches!(error, QmpError::Timeout("read the state of the guest's devices")), "{error}");
    }

    #[tokio::test]
    async fn the_end_of_an_earlier_save_is_not_taken_for_that_of_the_next() {
        const SCRIPT: &[&str] = &[
            GREETING,
            "{\"event\":\"MIGRATION\",\"data\":{\"status\":\"completed\"}}\n{\"return\":{},\"id\":1}\n",
            "{\"return\":{},\"id\":2}\n",
            "{\"return\":{},\"id\":3}\n",
            "{\"return\":{},\"id\":4}\n",
            "{\"return\":{},\"id\":5}\n{\"event\":\"MIGRATION\",\"data\":{\"status\":\"failed\"}}\n",
            "{\"return\":{\"error-desc\":\"no room\"},\"id\":6}\n",
        ];
        let error = save(&mut qemu(SCRIPT).await, file(), 1 << 20).await.unwrap_err();
        assert!(matches!(error, QmpError::Migration { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_is_never_answered_is_named() {
        let error = pause(&mut qemu(&[GREETING, DONE]).await).await.unwrap_err();
        assert!(error.to_string().contains("did not answer \"stop\""), "{error}");
    }
}
