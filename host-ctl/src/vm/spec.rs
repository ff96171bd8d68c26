//! What a VM is made of: resolved from flags and files once, then never changed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use firstlight_protocol::boot_spec::{BootOptions, Cidr, Dns, FileSystem, Mac, Program, VolumeMode};
use serde::{Deserialize, Serialize};

use super::id::{MAX_NAME, VmId, is_name};

/// The version of the document this build writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// Most virtual CPUs of a VM: what QEMU's microvm takes.
pub const MAX_CPUS: u32 = 288;

/// Least memory of a VM in MiB: the kernel and the initramfs have to fit.
pub const MIN_MEMORY_MIB: u32 = 64;

/// A spec could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// It is of another version than [`VERSION`].
    #[error("VM spec: field `version`: this build reads version {VERSION}, the spec is version {found}; {}",
        if *found > u64::from(VERSION) { "use a newer host-ctl" } else { "make the VM anew" })]
    Version {
        /// The version it carries.
        found: u64,
    },
    /// A field is missing, unknown or malformed, or the text is no JSON.
    #[error("VM spec: field `{field}`: {reason}")]
    Field {
        /// The path of the field; `.` is the whole document.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The spec. Relative paths are inside the VM's own directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    /// Always [`VERSION`].
    pub version: u32,
    /// Unique in its state directory while the VM exists.
    pub name: String,
    /// Unique for ever.
    pub id: VmId,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The emulated machine.
    #[serde(default)]
    pub machine: Machine,
    /// What runs the guest's instructions; `auto` is decided at each start.
    #[serde(default)]
    pub accel: Accel,
    /// The files every boot is made from.
    pub assets: Assets,
    /// The root file system.
    #[serde(default)]
    pub root: RootSpec,
    /// Where writes to the root go.
    #[serde(default)]
    pub upper: UpperSpec,
    /// What an image boots by itself with; `root` and `upper` mean nothing then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baked: Option<BakedSpec>,
    /// Further file systems.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeSpec>,
    /// Kernel headers to install in the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<HeadersSpec>,
    /// The network.
    #[serde(default)]
    pub network: NetworkSpec,
    /// The guest's host name; `None` keeps the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// What the VM runs: argv, env, cwd, user, mode, stop signal and grace.
    pub program: Program,
    /// How init boots: stage order, what a failure ends in.
    #[serde(default)]
    pub boot: BootOptions,
    /// Whether the VM boots without an agent.
    #[serde(default)]
    pub skip_guest_agent: bool,
    /// The user's own words about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// How much of its logs is kept.
    #[serde(default)]
    pub logs: LogLimits,
    /// The snapshot that the VM's first boot is restored from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<String>,
    /// Whether the VM is removed when it ends.
    #[serde(default)]
    pub rm_on_exit: bool,
}

/// The emulated machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Machine {
    /// QEMU's `microvm`: virtio over MMIO, no PCI; the fastest to boot.
    #[default]
    Microvm,
    /// QEMU's `q35`: PCI Express, for what needs it.
    Q35,
}

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accel {
    /// KVM where it really works, else TCG.
    #[default]
    Auto,
    /// The kernel's; it fails where there is none.
    Kvm,
    /// QEMU's emulation.
    Tcg,
}

/// The files every boot is made from. [`crate::assets`] finds and checks them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assets {
    /// The kernel: a bzImage or an uncompressed ELF image.
    pub kernel: PathBuf,
    /// The kernel's modules: the `lib/modules/RELEASE` directory.
    pub modules: PathBuf,
    /// guest-init.
    pub guest_init: PathBuf,
    /// guest-agent.
    pub guest_agent: PathBuf,
    /// A static busybox, for the built-in root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busybox: Option<PathBuf>,
    /// The command that starts the VMM.
    pub vmm: PathBuf,
    /// `vhost-device-vsock`, for hosts without `/dev/vhost-vsock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vsock_backend: Option<PathBuf>,
    /// Where initramfs archives are kept between boots.
    pub cache: PathBuf,
}

/// The root file system.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RootSpec {
    /// The busybox root in the initramfs.
    #[default]
    Builtin,
    /// A disk image.
    Image {
        /// The image.
        path: PathBuf,
        /// What is on it.
        file_system: FileSystem,
    },
}

/// Where writes to the root go.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum UpperSpec {
    /// To memory: lost at power-off.
    #[default]
    Tmpfs,
    /// To an ext4 image: kept.
    Disk(PathBuf),
}

/// A baked image, which boots by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BakedSpec {
    /// The VM's own copy of the image, which it writes to.
    pub root: PathBuf,
    /// The UUID of the file system, by which the image's initrd finds it.
    pub root_uuid: String,
    /// The kernel, the image's own or another.
    pub kernel: PathBuf,
    /// The initrd that goes with it.
    pub initrd: PathBuf,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// The disk image. An optional one may be missing.
    pub image: PathBuf,
    /// What is on it; `None` for an optional volume whose image is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_system: Option<FileSystem>,
    /// Where it is mounted in the guest.
    pub target: String,
    /// How it is mounted.
    #[serde(default)]
    pub mode: VolumeMode,
    /// Whether the boot fails without it.
    #[serde(default = "yes")]
    pub required: bool,
}

/// Kernel headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadersSpec {
    /// The bundle, as [`crate::headers::make`] makes it.
    pub bundle: PathBuf,
    /// Whether the guest's directories for other kernels' modules are covered until power-off.
    #[serde(default)]
    pub mask_others: bool,
}

fn yes() -> bool {
    true
}

/// The network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NetworkSpec {
    /// Loopback only.
    None,
    /// QEMU's user-mode network: out through the host's sockets, the host itself at 10.0.2.2.
    #[default]
    User,
    /// The same for a VM that was restored from a snapshot, which has addresses of its own.
    Copy {
        /// The guest's hardware address.
        mac: Mac,
        /// The guest's address.
        address: Ipv4Addr,
    },
    /// A tap device of the host.
    Tap {
        /// The device; it exists and is ours to use.
        interface: String,
        /// The guest's hardware address.
        mac: Mac,
        /// The guest's addresses.
        addresses: Vec<Cidr>,
        /// Its default gateways, at most one of each family.
        #[serde(default)]
        gateways: Vec<IpAddr>,
        /// Its name servers.
        #[serde(default)]
        dns: Dns,
        /// Its maximum transmission unit in bytes; `None` keeps the driver's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mtu: Option<u32>,
    },
}

/// How much of each log is kept: the log itself and its rotated files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogLimits {
    /// Bytes after which a log is rotated.
    pub max_size: u64,
    /// Files in all, the current one included; at least 1.
    pub max_files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        LogLimits { max_size: 16 << 20, max_files: 4 }
    }
}

impl VmSpec {
    /// A spec with the defaults of `run`.
    #[must_use]
    pub fn new(name: impl Into<String>, id: VmId, assets: Assets, program: Program) -> VmSpec {
        VmSpec {
            version: VERSION,
            name: name.into(),
            id,
            cpus: 1,
            memory_mib: 256,
            machine: Machine::default(),
            accel: Accel::default(),
            assets,
            root: RootSpec::default(),
            upper: UpperSpec::default(),
            baked: None,
            volumes: Vec::new(),
            headers: None,
            network: NetworkSpec::default(),
            hostname: None,
            program,
            boot: BootOptions::default(),
            skip_guest_agent: false,
            labels: BTreeMap::new(),
            logs: LogLimits::default(),
            restored_from: None,
            rm_on_exit: false,
        }
    }

    /// The document as JSON.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn to_json(&self) -> Result<String, SpecError> {
        serde_json::to_string_pretty(self)
            .map_err(|error| SpecError::Field { field: ".".into(), reason: error.to_string() })
    }

    /// Parses and validates a document.
    ///
    /// # Errors
    /// [`SpecError`], which names the field.
    pub fn from_json(bytes: &[u8]) -> Result<VmSpec, SpecError> {
        let reader = &mut serde_json::Deserializer::from_slice(bytes);
        let spec: VmSpec = serde_path_to_error::deserialize(reader).map_err(|error| {
            let (field, reason) = (error.path().to_string(), error.inner().to_string());
            version_of(bytes)
                .filter(|found| *found != u64::from(VERSION))
                .map_or(SpecError::Field { field, reason }, |found| SpecError::Version { found })
        })?;
        if spec.version != VERSION {
            return Err(SpecError::Version { found: spec.version.into() });
        }
        spec.validate()?;
        Ok(spec)
    }

    /// Checks what types alone cannot say. What goes into the boot spec is checked there.
    ///
    /// # Errors
    /// [`SpecError::Field`].
    pub fn validate(&self) -> Result<(), SpecError> {
        let check = |holds: bool, field: &str, reason: String| {
            if holds { Ok(()) } else { Err(SpecError::Field { field: field.to_owned(), reason }) }
        };
        let name = format!("a name is letters, digits, `_`, `.` and `-`, {MAX_NAME} bytes at most");
        check(is_name(&self.name), "name", name)?;
        check((1..=MAX_CPUS).contains(&self.cpus), "cpus", format!("must be from 1 to {MAX_CPUS}"))?;
        let memory = format!("must be at least {MIN_MEMORY_MIB} MiB");
        check(self.memory_mib >= MIN_MEMORY_MIB, "memory_mib", memory)?;
        check(self.logs.max_files >= 1, "logs.max_files", "must be at least 1".into())?;
        check(self.logs.max_size >= 512, "logs.max_size", "must be at least 512 bytes".into())?;
        let builtin = self.root == RootSpec::Builtin && self.baked.is_none();
        let builtin = builtin && self.assets.busybox.is_none();
        check(!builtin, "assets.busybox", "the built-in root needs a static busybox".into())?;
        for (index, volume) in self.volumes.iter().enumerate() {
            let field = format!("volumes[{index}].file_system");
            let known = volume.file_system.is_some() || !volume.required;
            check(known, &field, "a required volume needs one".into())?;
        }
        self.volume_commas()
    }

    /// QEMU's option syntax doubles commas, so they are no problem; a NUL cannot be passed at all.
    fn volume_commas(&self) -> Result<(), SpecError> {
        let has_nul = |path: &Path| path.as_os_str().as_encoded_bytes().contains(&0);
        match self.volumes.iter().position(|volume| has_nul(&volume.image)) {
            None => Ok(()),
            Some(index) => Err(SpecError::Field {
                field: format!("volumes[{index}].image"),
                reason: "must not contain NUL".into(),
            }),
        }
    }
}

fn version_of(bytes: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct VersionOnly {
        version: u64,
    }
    serde_json::from_slice::<VersionOnly>(bytes).ok().map(|document| document.version)
}

#[cfg(test)]
#[path = "spec_tests.rs"]
pub(crate) mod tests;
