//! Unplugging the guest's vsock for a save, and plugging one in after it. Source: `device_del`, `device_add` and
//! `chardev-add` in QEMU's QAPI schema.
//!
//! Only on a machine with PCI Express: QEMU's microvm cannot unplug anything.

use std::path::Path;

use serde_json::{Value, json};
use tokio::time::{Duration, Instant, timeout};

use super::qmp::{Qmp, QmpError};
use crate::backoff::{Attempt, jitter, retry};
use crate::driver::config::{VHOST_SOCKET, VsockConfig};

/// The device's name.
pub(super) const DEVICE: &str = "vsock";

/// The port it is plugged into.
pub(super) const PORT: &str = "vsock-port";

/// What connects it to its backend.
pub(super) const CHARDEV: &str = "vsock";

/// How long the guest may take to let go of the device.
const UNPLUG_DEADLINE: Duration = Duration::from_secs(10);

/// How long the backend may take to listen again.
const BACKEND_DEADLINE: Duration = Duration::from_secs(5);

/// Takes the device away, if it is there, from a guest that moves, since the guest has to agree. Another monitor may have
/// asked for that already: QEMU says what is plugged, and not what is about to be unplugged.
///
/// # Errors
/// [`QmpError`].
pub async fn unplug(qmp: &mut Qmp) -> Result<(), QmpError> {
    // What is known of an earlier device says nothing of this one.
    qmp.forget(&["DEVICE_DELETED"]);
    match qmp.execute("device_del", json!({ "id": DEVICE })).await {
        // It is gone, or going.
        Ok(_) | Err(QmpError::Refused { .. }) => {}
        Err(error) => return Err(error),
    }
    if !is_plugged(qmp).await? {
        return Ok(());
    }
    let gone = qmp.wait_for(|event| {
        let device = event.data.get("device").and_then(Value::as_str);
        (event.name == "DEVICE_DELETED" && device == Some(DEVICE)).then_some(())
    });
    timeout(UNPLUG_DEADLINE, gone).await.unwrap_or(Err(QmpError::Timeout("unplug the guest's vsock")))
}

/// Gives the guest a vsock, unless it has one.
///
/// # Errors
/// [`QmpError`].
pub async fn plug(qmp: &mut Qmp, vsock: VsockConfig) -> Result<(), QmpError> {
    let device = match vsock {
        // It has ports instead, which nobody takes away.
        VsockConfig::Serial => return Ok(()),
        VsockConfig::Kernel { .. } | VsockConfig::Backend if is_plugged(qmp).await? => return Ok(()),
        VsockConfig::Kernel { cid } => json!({ "driver": "vhost-vsock-pci", "guest-cid": cid }),
        VsockConfig::Backend => {
            connect_backend(qmp).await?;
            json!({ "driver": "vhost-user-vsock-pci", "chardev": CHARDEV })
        }
    };
    let mut arguments = json!({ "id": DEVICE, "bus": PORT });
    if let (Some(all), Some(device)) = (arguments.as_object_mut(), device.as_object()) {
        all.extend(device.clone());
    }
    qmp.execute("device_add", arguments).await.map(drop)
}

async fn is_plugged(qmp: &mut Qmp) -> Result<bool, QmpError> {
    let devices = qmp.execute("qom-list", json!({ "path": "/machine/peripheral" })).await?;
    let names = devices.as_array().into_iter().flatten().filter_map(|device| device.get("name"));
    Ok(names.filter_map(Value::as_str).any(|name| name == DEVICE))
}

/// The backend serves one connection at a time, and begins another conversation on a new one only.
async fn connect_backend(qmp: &mut Qmp) -> Result<(), QmpError> {
    match qmp.execute("chardev-remove", json!({ "id": CHARDEV })).await {
        // There is none in a VMM that was started for a restore.
        Ok(_) | Err(QmpError::Refused { .. }) => {}
        Err(error) => return Err(error),
    }
    let listens = retry(Instant::now() + BACKEND_DEADLINE, jitter, async || {
        if Path::new(VHOST_SOCKET).exists() { Attempt::Done(()) } else { Attempt::NotYet(()) }
    });
    listens.await.map_err(|()| QmpError::Timeout("reach the vsock backend again"))?;
    let address = json!({ "type": "unix", "data": { "path": VHOST_SOCKET } });
    let backend = json!({ "type": "socket", "data": { "addr": address, "server": false } });
    qmp.execute("chardev-add", json!({ "id": CHARDEV, "backend": backend })).await.map(drop)
}
