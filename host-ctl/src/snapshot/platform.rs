//! What a saved memory can go on with: it is the state of this very machine, kernel and agent.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use firstlight_protocol::version;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::SnapshotError;
use crate::driver::accel::{self, Accelerator};
use crate::vm::VmSpec;
use crate::vm::spec::Machine;

/// The versions that count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// The VMM's own word for itself.
    pub vmm: String,
    /// The VMM's file: where it is the same, so is its word.
    #[serde(default)]
    pub vmm_file: String,
    /// The processor that the guest sees.
    pub cpu: String,
    /// The emulated machine.
    pub machine: Machine,
    /// The kernel's file.
    pub kernel: String,
    /// The agent's file.
    pub agent: String,
    /// The newest protocol that the agent speaks.
    pub protocol: u16,
}

impl Platform {
    /// What a VM of `spec` would run on now. The VMM is asked for its version unless its file is the one that is `known`.
    ///
    /// # Errors
    /// [`SnapshotError::Io`] when a file of it is missing.
    pub async fn of(spec: &VmSpec, known: Option<&Platform>) -> Result<Platform, SnapshotError> {
        let vmm_file = stamp(&spec.assets.vmm)?;
        let vmm = match known.filter(|known| known.vmm_file == vmm_file) {
            Some(known) => known.vmm.clone(),
            None => vmm_version(&spec.assets.vmm).await?,
        };
        Ok(Platform {
            vmm,
            vmm_file,
            cpu: cpu(spec),
            machine: spec.machine,
            kernel: stamp(&spec.assets.kernel)?,
            agent: stamp(&spec.assets.guest_agent)?,
            protocol: version::SUPPORTED.newest,
        })
    }

    /// Whether a guest saved on `self`, in the snapshot `name`, can go on `here`.
    ///
    /// # Errors
    /// [`SnapshotError::Mismatch`], which names the first thing that differs.
    pub fn check(&self, here: &Platform, name: &str) -> Result<(), SnapshotError> {
        let machine = |platform: &Platform| format!("{:?}", platform.machine).to_lowercase();
        let pairs = [
            ("the VMM", self.vmm.clone(), here.vmm.clone()),
            ("the processor", self.cpu.clone(), here.cpu.clone()),
            ("the machine", machine(self), machine(here)),
            ("the kernel", self.kernel.clone(), here.kernel.clone()),
            ("the agent", self.agent.clone(), here.agent.clone()),
        ];
        if let Some((what, saved, here)) = pairs.into_iter().find(|(_, saved, here)| saved != here) {
            return Err(SnapshotError::Mismatch { name: name.to_owned(), what, saved, here });
        }
        if self.protocol < version::SUPPORTED.oldest {
            let (saved, here) = (self.protocol.to_string(), version::SUPPORTED.oldest.to_string());
            return Err(SnapshotError::Mismatch { name: name.to_owned(), what: "the protocol", saved, here });
        }
        Ok(())
    }
}

async fn vmm_version(vmm: &Path) -> Result<String, SnapshotError> {
    let output = Command::new(vmm).arg("--version").output().await;
    let output = output.map_err(SnapshotError::io("run", vmm))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// Under KVM the guest sees the host's processor; emulated, always the same one.
fn cpu(spec: &VmSpec) -> String {
    match accel::choose(spec.accel) {
        Ok(Accelerator::Kvm) => {
            let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let field = |name: &str| {
                let line = cpuinfo.lines().find(|line| line.starts_with(name)).unwrap_or_default();
                line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
            };
            format!("{} with {}", field("model name"), field("flags"))
        }
        Ok(Accelerator::Tcg) | Err(_) => "QEMU's own".into(),
    }
}

/// A file's size and time of change stand for its contents, as they do for the initramfs.
pub(super) fn stamp(path: &Path) -> Result<String, SnapshotError> {
    let metadata = fs::metadata(path).map_err(SnapshotError::io("look at", path))?;
    Ok(format!(
        "{} ({} bytes of {}.{:09})",
        path.display(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform() -> Platform {
        Platform {
            vmm: "QEMU 7.2".into(),
            vmm_file: "qemu (1 bytes)".into(),
            cpu: "QEMU's own".into(),
            machine: Machine::Q35,
            kernel: "vmlinuz (1 bytes)".into(),
            agent: "guest-agent (1 bytes)".into(),
            protocol: version::SUPPORTED.newest,
        }
    }

    #[test]
    fn what_differs_is_named_with_both_sides() {
        platform().check(&platform(), "s").unwrap();
        let newer = Platform { vmm: "QEMU 9.0".into(), ..platform() };
        let error = platform().check(&newer, "s").unwrap_err().to_string();
        assert!(error.contains("the VMM QEMU 7.2, and here is QEMU 9.0"), "{error}");
        let other = Platform { kernel: "vmlinuz (2 bytes)".into(), ..platform() };
        assert!(platform().check(&other, "s").unwrap_err().to_string().contains("the kernel"));
    }
}
