//! The VMs that are booted: what they have, and what their init is.

use std::path::{Path, PathBuf};

use firstlight_host_ctl::vm::spec::{Assets, NetworkSpec, RootSpec, UpperSpec, VolumeSpec};
use firstlight_host_ctl::vm::{VmId, VmSpec};
use firstlight_protocol::boot_spec::{FileSystem, Program, StageOrder, VolumeMode};
use firstlight_tests::disk;

/// Where the program is in the root.
pub(crate) const PROGRAM: &str = "/program";

/// Size of each disk in MiB: the file systems' structures are what a mount reads.
const DISK_MIB: u64 = 32;

/// Disk images that boots copy, so that each boot finds the same bytes.
#[derive(Debug)]
pub(crate) struct Disks {
    dir: tempfile::TempDir,
}

impl Disks {
    /// Makes a root with `program` in it, and an empty disk.
    #[must_use]
    pub(crate) fn make(program: &Path) -> Disks {
        let dir = tempfile::Builder::new().prefix("firstlight-bench-").tempdir();
        let dir = dir.unwrap_or_else(|error| panic!("cannot make a temporary directory: {error}"));
        let root = dir.path().join("root");
        for name in ["dev", "proc", "sys", "run", "etc", "tmp"] {
            std::fs::create_dir_all(root.join(name))
                .unwrap_or_else(|error| panic!("cannot make {name}: {error}"));
        }
        std::fs::copy(program, root.join(PROGRAM.trim_start_matches('/')))
            .unwrap_or_else(|error| panic!("cannot copy the program: {error}"));
        disk::ext4_from(&dir.path().join("root.img"), DISK_MIB, Some(&root));
        disk::ext4(&dir.path().join("empty.img"), DISK_MIB);
        Disks { dir }
    }

    /// The root's directory.
    #[must_use]
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// Copies the image `name` into a VM's directory. Holes stay holes.
    fn copy(&self, name: &str, vm: &Path, to: &str) -> PathBuf {
        let target = vm.join(to);
        let mut command = std::process::Command::new("cp");
        let status = command.arg("--sparse=always").arg(self.dir.path().join(name)).arg(&target).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot copy the disk image {name}");
        target
    }
}

/// A VM with the disks and the network of an ordinary one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene {
    /// Virtual CPUs.
    pub(crate) cpus: u32,
    /// ext4 volumes, besides the ext4 root and its ext4 upper layer.
    pub(crate) volumes: usize,
    /// Whether stages run as a graph or one by one.
    pub(crate) stages: StageOrder,
}

impl Scene {
    /// Where volume `index` is mounted.
    #[must_use]
    pub(crate) fn target(index: usize) -> String {
        format!("/data{index}")
    }

    /// The VM's spec, with its disks in `vm`.
    #[must_use]
    pub(crate) fn spec(self, assets: &Assets, disks: &Disks, vm: &Path) -> VmSpec {
        let id = VmId::random().unwrap_or_else(|error| panic!("no random bytes: {error}"));
        let mut spec = VmSpec::new("bench", id, assets.clone(), Program::new(vec![PROGRAM.to_owned()]));
        spec.cpus = self.cpus;
        spec.hostname = Some("bench".to_owned());
        spec.root =
            RootSpec::Image { path: disks.copy("root.img", vm, "root.img"), file_system: FileSystem::Ext4 };
        spec.upper = UpperSpec::Disk(disks.copy("empty.img", vm, "upper.img"));
        spec.network = NetworkSpec::User;
        spec.boot.stages = self.stages;
        let volume = |index| VolumeSpec {
            image: disks.copy("empty.img", vm, &format!("volume{index}.img")),
            file_system: Some(FileSystem::Ext4),
            target: Scene::target(index),
            mode: VolumeMode::Rw,
            required: true,
        };
        spec.volumes = (0..self.volumes).map(volume).collect();
        spec
    }
}
