//! From `host-ctl run` to Running, as a user has it: monitor, vsock, agent and all.
//!
//! What it is held against is the same VM as it is commonly done: stages one by one, kernel headers unpacked before the
//! program starts, and a host that asks every 500 ms whether the VM is ready.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use firstlight_tests::{Vm, disk};

use super::Context;
use crate::report::{Check, Figure, Section, Target};

/// How often the other host asks.
const POLL: Duration = Duration::from_millis(500);

/// How long a VM may take to be ready.
const DEADLINE: Duration = Duration::from_secs(180);

/// What the other guest runs: headers first, then the program.
const INLINE: &str = "tar -xf /headers/headers.tar -C /usr && touch /run/ready && exec sleep 100000";

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let files = Files::make(context);
    let [mut ours, mut polled, mut inline] = [Vec::new(), Vec::new(), Vec::new()];
    for run in 0..context.runs {
        ours.push(running(context, &files, &format!("ours-{run}")));
        polled.push(polling(
            context,
            &files,
            &format!("polled-{run}"),
            "touch /run/ready && exec sleep 100000",
        ));
        if files.headers {
            inline.push(polling(context, &files, &format!("inline-{run}"), INLINE));
        }
    }
    let mut figures = vec![
        Figure::new("host-ctl run -d", "ms", ours),
        Figure::new("serial stages, polled every 500 ms", "ms", polled),
    ];
    let mut checks = Vec::new();
    if files.headers {
        let other = Figure::new("serial stages, headers inline, polled every 500 ms", "ms", inline);
        checks.push(Check::new(
            "create to Running",
            other.median() / figures[0].median(),
            Target::AtLeast(3.4),
        ));
        figures.push(other);
    }
    let headers = if files.headers {
        "The headers are those of Debian's package for this kernel."
    } else {
        "Without apt there is no package of kernel headers to unpack, and that comparison is left out."
    };
    Section {
        name: "create",
        title: "From create to Running",
        text: format!("A busybox root on ext4, one ext4 volume, user network, one vCPU. {headers}"),
        figures,
        checks,
    }
}

/// The disks of these VMs.
struct Files {
    root: String,
    volume: String,
    headers_disk: String,
    headers: bool,
}

impl Files {
    fn make(context: &Context) -> Files {
        let path = |name: &str| context.lab.path(name).to_string_lossy().into_owned();
        let (root, volume, headers_disk) = (path("root.img"), path("volume.img"), path("headers.img"));
        let tree = disk::busybox_root(&context.lab.path(""));
        for name in ["headers", "usr", "data"] {
            make_dir(&tree.join(name));
        }
        disk::ext4_from(Path::new(&root), 64, Some(&tree));
        disk::ext4(Path::new(&volume), 64);
        let archive = context.lab.path("headers");
        make_dir(&archive);
        let headers = headers(context, &archive.join("headers.tar"));
        disk::ext4_from(Path::new(&headers_disk), 256, Some(&archive));
        Files { root, volume, headers_disk, headers }
    }

    /// The arguments that both VMs have.
    fn arguments<'a>(&'a self, volumes: &'a [String; 2]) -> Vec<&'a str> {
        vec!["--memory", "512M", "--rootfs", &self.root, "--volume", &volumes[0], "--volume", &volumes[1]]
    }

    fn volumes(&self) -> [String; 2] {
        [format!("{}:/data", self.volume), format!("{}:/headers:ro", self.headers_disk)]
    }
}

/// The kernel's headers as a tar archive at `path`; `false` where they cannot be had.
fn headers(context: &Context, path: &Path) -> bool {
    let release = context.assets.modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("headers.sh");
    Command::new(script).arg(release).arg(path).status().is_ok_and(|status| status.success())
}

/// Milliseconds until `run -d` says that the VM is Running.
fn running(context: &Context, files: &Files, name: &str) -> f64 {
    let volumes = files.volumes();
    let arguments = [files.arguments(&volumes), vec!["--", "sleep", "100000"]].concat();
    let start = Instant::now();
    let vm = context.lab.start(name, &arguments);
    let took = start.elapsed();
    vm.remove();
    took.as_secs_f64() * 1e3
}

/// Milliseconds until a host that asks every [`POLL`] finds what the guest runs ready.
fn polling(context: &Context, files: &Files, name: &str, script: &str) -> f64 {
    let volumes = files.volumes();
    let options = vec!["--stages", "serial", "--wait", "initializing"];
    let arguments = [options, files.arguments(&volumes), vec!["--", "sh", "-c", script]].concat();
    let start = Instant::now();
    let vm = context.lab.start(name, &arguments);
    while !is_ready(&vm) {
        assert!(start.elapsed() < DEADLINE, "{name} was not ready within {DEADLINE:?}");
        pause();
    }
    let took = start.elapsed();
    vm.remove();
    took.as_secs_f64() * 1e3
}

fn is_ready(vm: &Vm<'_>) -> bool {
    vm.exec(&["test", "-e", "/run/ready"]).code() == 0
}

#[allow(clippy::disallowed_methods, reason = "the host that polls is what is measured")]
fn pause() {
    std::thread::sleep(POLL);
}

fn make_dir(path: &Path) {
    std::fs::create_dir_all(path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
}
