//! What kernel headers cost a boot: with a real bundle and without one, in turns, so that whatever else the machine does
//! meets both alike.

use firstlight_tests::{Lab, Vm, disk};

use super::Context;
use crate::report::{Check, Figure, Section, Target};

/// What Running may take longer with headers.
const LIMIT: f64 = 1.05;

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let lab = &context.lab;
    let bundle = bundle(lab);
    let volumes = ["/usr/src", "/lib/modules"].map(|target| {
        let image = lab.path(&format!("volume{}", target.replace('/', "-")));
        disk::ext4(&image, 256);
        format!("{}:{target}", image.display())
    });
    let disks = ["--volume", &volumes[0], "--volume", &volumes[1]];
    let attached = [&["--headers", &bundle][..], &disks].concat();

    // The first boot installs what the others find.
    let installed = boot(lab, &attached, true);
    let (mut with, mut without, mut recognized) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..context.runs {
        without.push(boot(lab, &disks, false).running);
        let found = boot(lab, &attached, true);
        with.push(found.running);
        recognized.push(found.worker);
    }
    let (with, without) =
        (Figure::new("init to Running with headers", "ms", with), Figure::new("without", "ms", without));
    let ratio = with.median() / without.median();
    Section {
        name: "headers",
        title: "Kernel headers",
        text: "From init's first instant to Running with a bundle of Debian's headers and without; how long the worker \
               takes to install them, and to see that they are installed, by its own clock."
            .to_owned(),
        figures: vec![
            with,
            without,
            Figure::new("installed by the first boot", "ms", vec![installed.worker]),
            Figure::new("recognized as installed", "ms", recognized),
        ],
        checks: vec![Check::new("Running with headers against without", ratio, Target::AtMost(LIMIT))],
    }
}

fn bundle(lab: &Lab) -> String {
    let bundle = lab.path("headers.tar.gz").to_str().unwrap().to_owned();
    let packages = disk::headers_packages();
    let from: Vec<&str> = packages.iter().map(|package| package.to_str().unwrap()).collect();
    let _ = lab.host_ctl(&[&["headers", "bundle", "-o", &bundle, "--from"][..], &from].concat()).ok();
    bundle
}

/// One boot, in ms.
struct Boot {
    /// From init's first instant to Running.
    running: f64,
    /// What the worker took, if there was one.
    worker: f64,
}

fn boot(lab: &Lab, flags: &[&str], worker: bool) -> Boot {
    let vm = lab.start("booted", &[flags, &["--", "sleep", "1000"]].concat());
    let worker = if worker { worker_ms(&vm) } else { 0.0 };
    let timings = vm.inspect()["timings"].clone();
    let ms = |name: &str| timings[name].as_f64().unwrap();
    let boot = Boot { running: ms("running") - ms("init_start"), worker };
    vm.stop();
    vm.remove();
    boot
}

fn worker_ms(vm: &Vm<'_>) -> f64 {
    vm.wait("headers");
    let status: serde_json::Value =
        serde_json::from_str(&vm.sh("cat /run/firstlight/headers.status")).unwrap();
    status["dur"].as_f64().unwrap() / 1e6
}
