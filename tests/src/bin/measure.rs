//! Figures of the host's side, from one run: `make build && cargo run --release -p firstlight-tests --bin measure`.
//!
//! * **wake**: from the guest's emission of an event to the wake of `host-ctl events --follow`. Guest and host have no
//!   common clock, so each latency is given above the fastest one of the run; the fastest itself is about half a round
//!   trip over vsock.
//! * **ps**: the wall time of `host-ctl ps -a` with 200 recorded VMs.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring program prints, and fails by panicking"
)]

use std::time::{Duration, Instant};

use firstlight_tests::{Lab, Vm};

/// How often the agent of each VM is killed; each time gives two events. Init waits longer before each restart, so
/// several VMs are quicker than many kills of one.
const KILLS: usize = 8;
const VMS: usize = 8;

/// How many VMs `ps` lists, and how often.
const RECORDED: usize = 200;
const LISTINGS: usize = 11;

fn main() {
    let Some(lab) = Lab::open() else { return };
    let mut latencies = Vec::new();
    for index in 0..VMS {
        let vm = lab.start(&format!("woken-{index}"), &["--", "sleep", "100000"]);
        latencies.extend(wake(&vm));
        vm.remove();
    }
    show("emission to wake, above the fastest", &latencies);
    let vm = lab.start("measured", &["--", "sleep", "100000"]);
    vm.stop();
    record_many(&lab, &vm);
    show("ps -a with 200 recorded VMs", &listings(&lab));
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
