//! Further file systems, mounted in the root.

use serde::{Deserialize, Serialize};

use super::Disk;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The disk it is on.
    pub disk: Disk,
    /// Where it is mounted: an absolute path inside the root, made if missing.
    pub target: String,
    /// How it is mounted.
    #[serde(default, skip_serializing_if = "super::goes_without_saying")]
    pub mode: VolumeMode,
    /// Whether the boot fails without it. A missing optional volume is said in its STAGE-DONE sentinel.
    #[serde(default = "default_required", skip_serializing_if = "is_required")]
    pub required: bool,
}

/// How a volume is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeMode {
    /// Read and write.
    #[default]
    Rw,
    /// Read only.
    Ro,
    /// Read from the volume, write to memory: what is written is lost at power-off.
    Overlay,
}

fn default_required() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_required(required: &bool) -> bool {
    *required
}
