//! Figures of the host's side, from one run: `make build && cargo run --release -p firstlight-tests --bin measure`.
//! A name of those below, behind ` -- `, has that one measured alone.
//!
//! * **wake**: from the guest's emission of an event to the wake of `host-ctl events --follow`. Guest and host have no
//!   common clock, so each latency is given above the fastest one of the run; the fastest itself is about half a round
//!   trip over vsock.
//! * **ps**: the wall time of `host-ctl ps -a` with 200 recorded VMs.
//! * **headers**: from init's first instant to Running, with a real bundle of kernel headers and without one, in turns;
//!   how long they take to be installed; and how long it takes to see that they are, as the worker itself says.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program prints, and fails by panicking"
)]

use std::time::{Duration, Instant};

use firstlight_tests::{Lab, Vm, disk};

/// How often the agent of each VM is killed; each time gives two events. Init waits longer before each restart, so
/// several VMs are quicker than many kills of one.
const KILLS: usize = 8;
const VMS: usize = 8;

/// How many VMs `ps` lists, and how often.
const RECORDED: usize = 200;
const LISTINGS: usize = 11;

/// Boots with headers, each beside one without.
const BOOTS: usize = 11;

fn main() {
    let Some(lab) = Lab::open() else { return };
    let only = std::env::args().nth(1);
    let wanted = |name| only.as_deref().is_none_or(|only| only == name);
    if wanted("wake") {
        wakes(&lab);
    }
    if wanted("ps") {
        ps(&lab);
    }
    if wanted("headers") {
        headers(&lab);
    }
}

fn wakes(lab: &Lab) {
    let mut latencies = Vec::new();
    for index in 0..VMS {
        let vm = lab.start(&format!("woken-{index}"), &["--", "sleep", "100000"]);
        latencies.extend(wake(&vm));
        vm.remove();
    }
    show("emission to wake, above the fastest", &latencies);
}

fn ps(lab: &Lab) {
    let vm = lab.start("measured", &["--", "sleep", "100000"]);
    vm.stop();
    record_many(lab, &vm);
    show("ps -a with 200 recorded VMs", &listings(lab));
}

/// Boots with headers and without, in turns, so that whatever else the machine does meets both alike.
fn headers(lab: &Lab) {
    let bundle = lab.path("headers.tar.gz");
    let packages = disk::headers_packages();
    let from: Vec<&str> = packages.iter().map(|package| package.to_str().unwrap()).collect();
    let bundle = bundle.to_str().unwrap();
    let _ = lab.host_ctl(&[&["headers", "bundle", "-o", bundle, "--from"][..], &from].concat()).ok();
    let volumes = ["/usr/src", "/lib/modules"].map(|target| {
        let image = lab.path(&format!("volume{}", target.replace('/', "-")));
        disk::ext4(&image, 256);
        format!("{}:{target}", image.display())
    });
    let disks = ["--volume", &volumes[0], "--volume", &volumes[1]];
    let (mut with, mut without, mut recognized) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..=BOOTS {
        for (samples, flags) in [(&mut without, &[][..]), (&mut with, &["--headers", bundle][..])] {
            let vm = lab.start("booted", &[flags, &disks, &["--", "sleep", "1000"]].concat());
            samples.push(boot(&vm));
            if !flags.is_empty() {
                vm.wait("headers");
                let status: serde_json::Value =
                    serde_json::from_str(&vm.sh("cat /run/firstlight/headers.status")).unwrap();
                recognized.push(Duration::from_nanos(status["dur"].as_u64().unwrap()));
            }
            vm.stop();
            vm.remove();
        }
        if turn == 0 {
            println!("headers, installed by the first boot: {:.2?}", recognized[0]);
            with.clear();
            without.clear();
            recognized.clear();
        }
    }
    show("init to Running without headers", &without);
    show("init to Running with headers", &with);
    let ratio = median(&with).as_secs_f64() / median(&without).as_secs_f64();
    println!("headers, ratio of the medians: {ratio:.3}");
    show("headers, installed already: recognized in", &recognized);
}

/// From init's first instant to Running.
fn boot(vm: &Vm<'_>) -> Duration {
    let timings = vm.inspect()["timings"].clone();
    let ms = |name: &str| timings[name].as_f64().unwrap();
    Duration::from_secs_f64((ms("running") - ms("init_start")) / 1_000.0)
}

fn median(samples: &[Duration]) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2]
}

/// Kills the agent again and again, and notes when each event was emitted and when it was read.
fn wake(vm: &Vm<'_>) -> Vec<Duration> {
    let origin = Instant::now();
    let mut events = vm.follow_events();
    events.until("AGENT-READY");
    let mut differences = Vec::new();
    for _ in 0..KILLS {
        let _ = vm.exec(&["sh", "-c", "kill -9 $PPID"]);
        loop {
            let line = events.line();
            let heard = i128::try_from(origin.elapsed().as_nanos()).unwrap();
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            if event["event"] == "AGENT-EXIT" || event["event"] == "AGENT-READY" {
                differences.push(heard - i128::from(event["t"].as_u64().unwrap()));
            }
            if event["event"] == "AGENT-READY" {
                break;
            }
        }
    }
    let fastest = differences.iter().min().copied().unwrap();
    let above = |difference: i128| Duration::from_nanos(u64::try_from(difference - fastest).unwrap());
    differences.into_iter().map(above).collect()
}

/// Copies the record of one VM under other names.
fn record_many(lab: &Lab, vm: &Vm<'_>) {
    let id = vm.inspect()["id"].as_str().unwrap().to_owned();
    for index in 1..RECORDED {
        let copy = lab.vm(&format!("copy-{index}"));
        std::fs::create_dir(copy.dir()).unwrap();
        std::fs::copy(vm.dir().join("journal"), copy.dir().join("journal")).unwrap();
        let spec = std::fs::read_to_string(vm.dir().join("vm.json")).unwrap();
        let spec =
            spec.replace("\"measured\"", &format!("\"copy-{index}\"")).replace(&id, &format!("{index:012x}"));
        std::fs::write(copy.dir().join("vm.json"), spec).unwrap();
    }
}

fn listings(lab: &Lab) -> Vec<Duration> {
    let list = |_| {
        let start = Instant::now();
        let listed = lab.host_ctl(&["ps", "-a", "-q"]).ok();
        assert_eq!(listed.text().lines().count(), RECORDED);
        start.elapsed()
    };
    (0..LISTINGS).map(list).collect()
}

fn show(what: &str, samples: &[Duration]) {
    let mut sorted = samples.to_vec();
    sorted.sort();
    let at = |percent: usize| sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)];
    println!("{what}: n={} p50={:.2?} p99={:.2?} max={:.2?}", sorted.len(), at(50), at(99), at(100));
}
