//! The programs a run starts, each of them started.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use firstlight_host_ctl::assets::{self, Environment, Wanted};
use firstlight_host_ctl::snapshot::disks::QEMU_IMG;
use tokio::process::Command;
use tokio::time::timeout;

use super::Finding;

/// None of them takes longer to say its version.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn check(environment: &Environment) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Ok(found) = assets::find(&Wanted::default(), environment) {
        findings.push(version("qemu", &found.vmm, "install qemu-system-x86").await);
        findings.push(match found.vsock_backend {
            Some(backend) => version("vsock", &backend, "run `make setup`").await,
            None => Finding::good("vsock", "/dev/vhost-vsock"),
        });
    }
    let erofs = Path::new("mkfs.erofs");
    let mend = "install erofs-utils; --rootfs then takes directories and tar archives too";
    findings.push(version("mkfs.erofs", erofs, mend).await.optional());
    let mend = "install qemu-utils; VMs with disks that are written to can then be restored from snapshots";
    findings.push(version("qemu-img", Path::new(QEMU_IMG), mend).await.optional());
    findings
}

/// Starts a program to have it say its version.
async fn version(check: &'static str, program: &Path, mend: &str) -> Finding {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    match timeout(LIMIT, command.output()).await {
        Ok(Ok(output)) => {
            let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            let said = String::from_utf8_lossy(&said);
            let first = said.lines().next().unwrap_or_default().trim();
            Finding::good(check, format!("{} ({first})", program.display()))
        }
        Ok(Err(error)) => {
            Finding::bad(check, format!("{} cannot be started: {error}", program.display()), mend)
        }
        Err(_) => Finding::bad(check, format!("{} says nothing within 5s", program.display()), mend),
    }
}
