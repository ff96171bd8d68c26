//! The programs in `c/`, compiled where the figures go.

use std::path::{Path, PathBuf};
use std::process::Command;

use firstlight_initramfs::modules::ModuleTree;

/// A directory for what is built.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    dir: PathBuf,
}

/// What the floor is compiled for.
#[derive(Debug, Clone, Default)]
pub(crate) struct FloorBoot {
    /// Kernel modules in load order.
    pub(crate) modules: Vec<String>,
    /// Mount points, of the disks with the serials `vol0`, `vol1` and so on.
    pub(crate) volumes: Vec<String>,
    /// Whether there is an interface besides loopback.
    pub(crate) network: bool,
}

impl Tools {
    /// Builds into `dir`.
    #[must_use]
    pub(crate) fn new(dir: &Path) -> Tools {
        std::fs::create_dir_all(dir).unwrap_or_else(|error| panic!("cannot make {}: {error}", dir.display()));
        Tools { dir: dir.to_owned() }
    }

    /// The QEMU plugin that marks and counts.
    #[must_use]
    pub(crate) fn marks(&self) -> PathBuf {
        self.compile("marks.c", "marks.so", &["-shared", "-fPIC", "-fvisibility=hidden"])
    }

    /// The program of the measured boots.
    #[must_use]
    pub(crate) fn program(&self) -> PathBuf {
        self.compile("program.S", "program", &["-nostdlib", "-static"])
    }

    /// The floor for `boot`, which executes `program`.
    #[must_use]
    pub(crate) fn floor(&self, boot: &FloorBoot, agent_config: &str, program: &str) -> PathBuf {
        let modules: Vec<String> = boot
            .modules
            .iter()
            .map(|name| quoted(&firstlight_protocol::module_manifest::module_path(name)))
            .collect();
        let volume = |(index, target): (usize, &String)| format!("{{\"vol{index}\",{}}},", quoted(target));
        let volumes: String = boot.volumes.iter().enumerate().map(volume).collect();
        let defines = [
            format!("-DMODULES={}", modules.join(",")),
            format!("-DVOLUMES={volumes}"),
            format!("-DNETWORK={}", u8::from(boot.network)),
            format!("-DAGENT_CONFIG={}", quoted(agent_config)),
            format!("-DPROGRAM={}", quoted(program)),
        ];
        let mut flags = vec!["-static", "-Wno-unused-result"];
        flags.extend(defines.iter().map(String::as_str));
        self.compile("floor.c", &format!("floor-{}", boot.volumes.len()), &flags)
    }

    /// The init that mounts three file systems and becomes `program`.
    #[must_use]
    pub(crate) fn minimal(&self, program: &str) -> PathBuf {
        let define = format!("-DPROGRAM={}", quoted(program));
        self.compile("minimal.c", "minimal", &["-static", &define])
    }

    /// The guest's end of bare vsock connections.
    #[must_use]
    pub(crate) fn peer(&self) -> PathBuf {
        self.compile("peer.c", "peer", &["-static"])
    }

    fn compile(&self, source: &str, name: &str, flags: &[&str]) -> PathBuf {
        let output = self.dir.join(name);
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("c").join(source);
        let mut command = Command::new("cc");
        command.args(["-O2", "-Wall", "-Wextra", "-Werror"]).args(flags).arg("-o").arg(&output).arg(&source);
        let status =
            command.status().unwrap_or_else(|error| panic!("cannot run cc: {error}; run `make setup`"));
        assert!(status.success(), "cc failed on {}", source.display());
        output
    }
}

/// The modules of `wanted` that are no part of the kernel, in load order, as init has them in the initramfs.
#[must_use]
pub(crate) fn load_order(modules_dir: &Path, wanted: &[&str]) -> Vec<String> {
    let manifest = ModuleTree::read(modules_dir).and_then(|tree| tree.resolve(wanted));
    let manifest = manifest.unwrap_or_else(|error| panic!("{error}"));
    manifest.load_order(wanted)
}

/// As a string literal of C.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
