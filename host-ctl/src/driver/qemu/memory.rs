//! A guest's memory and devices, into a file and out of it. Source: "Migration" in QEMU's QAPI schema.
//!
//! QEMU gets the file as a descriptor and writes it itself: with `exec:` another process would stand in between, and an
//! error at its end would be nobody's.

use std::fs::File;

use serde_json::{Value, json};

use super::qmp::{Qmp, QmpError};

/// The name under which QEMU has the file.
const DESCRIPTOR: &str = "memory";

/// Bytes a second that a save may write: as many as the disk takes.
const BANDWIDTH: u64 = 1 << 40;

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

/// Writes everything the paused guest consists of, but for its disks.
///
/// # Errors
/// [`QmpError::Migration`] when not all could be written.
pub async fn save(qmp: &mut Qmp, file: File) -> Result<(), QmpError> {
    tell_of_migrations(qmp).await?;
    qmp.execute("migrate-set-parameters", json!({ "max-bandwidth": BANDWIDTH })).await?;
    qmp.give(&file, DESCRIPTOR).await?;
    drop(file);
    qmp.execute("migrate", json!({ "uri": format!("fd:{DESCRIPTOR}") })).await?;
    migrated(qmp).await
}

/// Makes the guest what it was when it was saved. It stays paused.
///
/// # Errors
/// [`QmpError::Migration`] when the file is not what a machine like this one has saved.
pub async fn load(qmp: &mut Qmp, file: File) -> Result<(), QmpError> {
    tell_of_migrations(qmp).await?;
    qmp.give(&file, DESCRIPTOR).await?;
    drop(file);
    qmp.execute("migrate-incoming", json!({ "uri": format!("fd:{DESCRIPTOR}") })).await?;
    migrated(qmp).await
}

/// Gives up a save that another monitor has begun, if it is still under way.
///
/// # Errors
/// [`QmpError`].
pub async fn cancel(qmp: &mut Qmp) -> Result<(), QmpError> {
    tell_of_migrations(qmp).await?;
    let migration = qmp.execute("query-migrate", json!({})).await?;
    let status = migration.get("status").and_then(Value::as_str);
    if matches!(status, Some("setup" | "active" | "device" | "pre-switchover" | "cancelling")) {
        qmp.execute("migrate_cancel", json!({})).await?;
        // However it ends, it has.
        match migrated(qmp).await {
            Ok(()) | Err(QmpError::Migration { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn tell_of_migrations(qmp: &mut Qmp) -> Result<(), QmpError> {
    let events = json!({ "capabilities": [{ "capability": "events", "state": true }] });
    qmp.execute("migrate-set-capabilities", events).await.map(drop)
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
