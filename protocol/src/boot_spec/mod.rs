//! What the host tells a VM at boot: one versioned JSON document.
//!
//! Init looks for it at [`INITRAMFS_PATH`], then on a disk with the serial or label [`DISK_NAME`], then in QEMU's
//! fw_cfg under [`FW_CFG_NAME`]. Unknown fields are refused, because a field that is ignored is a promise that is
//! broken in silence, and every error names its field.

mod network;
mod place;
mod program;
mod root;
mod validate;
mod volume;

use serde::{Deserialize, Serialize};

pub use network::{Cidr, CidrError, Dns, Interface, Mac, MacError, Network};
pub use program::{Mode, Program, Resource, Rlimit};
pub use root::{Disk, FileSystem, Root, RootSource, RootUpper};
pub use validate::MAX_SPEC_BYTES;
pub use volume::{Volume, VolumeMode};

use crate::hex::{BootId, Secret};

/// The version of the document this build writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// Where the document is in the initramfs.
pub const INITRAMFS_PATH: &str = "/firstlight/boot.json";

/// The virtio serial, or the file-system label, of a disk that holds the document: as `/boot.json` of a file system, or
/// from its first byte, ended by a NUL.
pub const DISK_NAME: &str = "firstlight";

/// The name of the document in QEMU's fw_cfg, as given to `-fw_cfg name=`. Source: `docs/specs/fw_cfg` of QEMU.
pub const FW_CFG_NAME: &str = "opt/firstlight/boot.json";

/// A boot spec could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootSpecError {
    /// The document is larger than [`MAX_SPEC_BYTES`].
    #[error("boot spec: {bytes} bytes is over the limit of {MAX_SPEC_BYTES}")]
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
    },
    /// The document is of another version than [`VERSION`].
    #[error("boot spec: field `version`: this build reads version {VERSION}, the document is version {found}; {}",
        if *found > u64::from(VERSION) { "use a newer guest-init" } else { "use a newer host-ctl" })]
    Version {
        /// The version it carries.
        found: u64,
    },
    /// A field is missing, unknown or malformed, or the text is no JSON.
    #[error("boot spec: field `{field}`: {reason}")]
    Field {
        /// The path of the field, such as `volumes[1].target`; `.` is the whole document.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootSpec {
    /// Always [`VERSION`].
    pub version: u32,
    /// This boot.
    pub boot_id: BootId,
    /// The key of the sentinels' MAC.
    pub mac_key: Secret,
    /// The guest's host name; `None` keeps the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The root file system.
    pub root: Root,
    /// Further file systems, mounted in the root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Addresses, routes and name servers.
    #[serde(default, skip_serializing_if = "goes_without_saying")]
    pub network: Network,
    /// The agent; `None` boots without one (`skip_guest_agent`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    /// What the VM exists to run.
    pub program: Program,
    /// Kernel headers to install beside the program; nothing waits for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
    /// How to boot.
    #[serde(default, skip_serializing_if = "goes_without_saying")]
    pub boot: BootOptions,
}

/// The agent's part of the document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// What a host has to show in its first frame.
    pub token: Secret,
    /// The vsock port to listen on.
    #[serde(default = "default_agent_port")]
    pub port: u32,
    /// How long init waits for readiness before the boot fails, in milliseconds.
    #[serde(default = "default_ready_timeout")]
    pub ready_timeout_ms: u32,
}

/// Kernel headers, from a bundle on a disk of their own (see [`crate::headers`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Headers {
    /// The disk's virtio serial.
    #[serde(default = "default_headers_serial")]
    pub serial: String,
    /// Whether directories of `/lib/modules` for other kernels are covered by empty ones until power-off.
    #[serde(default)]
    pub mask_others: bool,
}

/// How init runs the boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BootOptions {
    /// Whether stages run as a graph or one by one.
    pub stages: StageOrder,
    /// What a failed boot ends in.
    pub on_fatal: OnFatal,
    /// How long init waits for a disk or a network interface to appear, in milliseconds.
    pub device_timeout_ms: u32,
    /// Whether sentinels go to the host's event stream over vsock as well as to the serial console.
    pub event_stream: bool,
    /// Kernel modules to load besides those the boot needs, by name.
    pub modules: Vec<String>,
    /// The road between host and guest.
    #[serde(skip_serializing_if = "goes_without_saying")]
    pub transport: Transport,
}

impl Default for BootOptions {
    fn default() -> Self {
        BootOptions {
            stages: StageOrder::Graph,
            on_fatal: OnFatal::PowerOff,
            device_timeout_ms: 5_000,
            event_stream: true,
            modules: Vec::new(),
            transport: Transport::default(),
        }
    }
}

/// The road between host and guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// vsock, with a connection for everything.
    #[default]
    Vsock,
    /// Two ports of a virtio-serial device, see [`crate::port::serial`].
    Serial,
}

/// The order of init's stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageOrder {
    /// Each stage starts the moment what it needs is there.
    #[default]
    Graph,
    /// The same graph, one stage at a time, for debugging and to measure what the parallelism gains.
    Serial,
}

/// What a failed boot ends in, after its FATAL sentinel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFatal {
    /// Power off.
    #[default]
    PowerOff,
    /// Run `/bin/sh` on the console, then power off.
    Shell,
}

/// Whether a field has its default, which a document need not say: init then has less to read, and builds from before the field
/// was there understand the document.
pub(crate) fn goes_without_saying<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn default_headers_serial() -> String {
    crate::headers::SERIAL.to_owned()
}

fn default_agent_port() -> u32 {
    crate::port::AGENT
}

fn default_ready_timeout() -> u32 {
    10_000
}

impl BootSpec {
    /// Whether AGENT-READY is waived for this boot.
    #[must_use]
    pub fn skip_guest_agent(&self) -> bool {
        self.agent.is_none()
    }

    /// The document as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Only a map with keys that are no strings could fail here, and there is none.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Parses and validates a document.
    ///
    /// # Errors
    /// [`BootSpecError`], which names the field.
    pub fn from_json(bytes: &[u8]) -> Result<BootSpec, BootSpecError> {
        if bytes.len() > MAX_SPEC_BYTES {
            return Err(BootSpecError::TooLarge { bytes: bytes.len() });
        }
        let spec: BootSpec =
            serde_json::from_slice(bytes).map_err(|error| Self::field_error(bytes, &error))?;
        if spec.version != VERSION {
            return Err(BootSpecError::Version { found: spec.version.into() });
        }
        validate::validate(&spec)?;
        Ok(spec)
    }

    /// A document of a newer version most often fails on a field this build does not know. That is worth knowing
    /// before the field's name is, so the version is looked for once more on the way out.
    fn field_error(bytes: &[u8], error: &serde_json::Error) -> BootSpecError {
        #[derive(Deserialize)]
        struct VersionOnly {
            version: u64,
        }
        match serde_json::from_slice(bytes) {
            Ok(VersionOnly { version }) if version != u64::from(VERSION) => {
                BootSpecError::Version { found: version }
            }
            Ok(VersionOnly { .. }) | Err(_) => BootSpecError::Field {
                field: place::path_at(bytes, error.line(), error.column()),
                reason: error.to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests;
