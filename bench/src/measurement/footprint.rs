//! How large everything is: on disk, in the guest's memory, on the host.

use std::fs;
use std::path::Path;

use firstlight_initramfs::{BuiltinRoot, Shared, Signatures};

use super::Context;
use super::boot_path::float;
use crate::report::{Check, Figure, Section, Target};

const MIB: f64 = 1024.0 * 1024.0;

/// Prints resident kB of PID 1 and of the agent, which is the parent of what it executes, and how many files the
/// initramfs has besides the root that is in use. `VmRSS` would lack what a thread with few faults has not passed on to its
/// process yet, which of init is nearly all; `smaps_rollup` counts pages (`proc_pid_smaps(5)`). Init keeps the initramfs open, so a process of root's still reaches it there.
const LOOK: &str = "
    rss() { sed -n 's/^Rss:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/$1/smaps_rollup; }
    echo init $(rss 1)
    echo agent $(rss $PPID)
    for fd in /proc/1/fd/*; do
        if [ -d $fd/firstlight/mnt ]; then
            echo left $(find $fd/ -xdev -type f ! -path '*/firstlight/root/*' | wc -l)
            break
        fi
    done
";

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let vm = context.lab.start("footprint", &["--", "sleep", "100000"]);
    let seen = vm.sh(LOOK);
    let in_guest = |name: &str| {
        let mut lines = seen.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        lines.next().unwrap_or_else(|| panic!("the guest did not say {name}: {seen}"))
    };
    let monitor =
        monitor_kb(&vm.dir()).unwrap_or_else(|| panic!("no monitor watches {}", vm.dir().display()));
    let sizes = [
        ("guest-init on disk", file_mib(&context.assets.guest_init), 1.6),
        ("guest-agent on disk", file_mib(&context.assets.guest_agent), 3.0),
        ("default initramfs without modules", initramfs_mib(context), 5.0),
        ("PID 1, resident", in_guest("init") / 1024.0, 2.0),
        ("agent, resident", in_guest("agent") / 1024.0, 4.0),
        ("monitor of a VM, resident", monitor / 1024.0, 8.0),
    ];
    let left = in_guest("left");
    vm.remove();
    let mut figures: Vec<Figure> =
        sizes.iter().map(|(what, mib, _)| Figure::new(*what, "MiB", vec![*mib])).collect();
    figures.push(Figure::new("files left in the initramfs", "files", vec![left]));
    let mut checks: Vec<Check> = sizes
        .iter()
        .map(|(what, mib, limit)| Check::new(format!("{what}, MiB"), *mib, Target::AtMost(*limit)))
        .collect();
    checks.push(Check::new("files left in the initramfs", left, Target::AtMost(float(0))));
    Section {
        name: "footprint",
        title: "Footprint",
        text: "A VM that idles on the built-in root, which is in the initramfs and stays. So does what init and the agent \
               execute, as their text, whatever becomes of its name."
            .to_owned(),
        figures,
        checks,
    }
}

fn file_mib(path: &Path) -> f64 {
    let length = fs::metadata(path).map(|metadata| metadata.len());
    float(length.unwrap_or_else(|error| panic!("cannot look at {}: {error}", path.display()))) / MIB
}

fn initramfs_mib(context: &Context) -> f64 {
    let assets = &context.assets;
    let shared = Shared {
        init: &assets.guest_init,
        agent: Some(&assets.guest_agent),
        modules_dir: &assets.modules,
        modules: &[],
        signatures: Signatures::Keep,
        builtin_root: assets.busybox.as_deref().map(BuiltinRoot::Busybox),
    };
    let packed = shared.pack().unwrap_or_else(|error| panic!("{error}"));
    float(packed.len() as u64) / MIB
}

/// Resident kB of the process that works in the VM's directory and is its monitor.
fn monitor_kb(vm: &Path) -> Option<f64> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let process = process.path();
        let arguments = fs::read(process.join("cmdline")).ok()?;
        let is_monitor = arguments.split(|byte| *byte == 0).nth(1) == Some(b"monitor");
        if !is_monitor || fs::read_link(process.join("cwd")).ok()? != vm.canonicalize().ok()? {
            return None;
        }
        let pages = fs::read_to_string(process.join("smaps_rollup")).ok()?;
        let line = pages.lines().find_map(|line| line.strip_prefix("Rss:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    })
}
