//! The host's side of a VM's events, and of many VMs.
//!
//! * **wake**: from the guest's emission of an event to the wake of `host-ctl events --follow`. Guest and host have no
//!   common clock, so each latency is given above the fastest one of the run; the fastest itself is about half a round
//!   trip over vsock.
//! * **ps**: the wall time of `host-ctl ps -a` with 200 recorded VMs.

use std::time::{Duration, Instant};

use firstlight_tests::{Lab, Vm};

use super::Context;
use crate::report::{Figure, Section};

/// How often the agent of each VM is killed; each time gives two events. Init waits longer before each restart, so
/// several VMs are quicker than many kills of one.
const KILLS: usize = 8;
const VMS: usize = 8;

/// How many VMs `ps` lists, and how often.
const RECORDED: usize = 200;
const LISTINGS: usize = 11;

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let lab = &context.lab;
    let mut latencies = Vec::new();
    for index in 0..VMS {
        let vm = lab.start(&format!("woken-{index}"), &["--", "sleep", "100000"]);
        latencies.extend(wake(&vm));
        vm.remove();
    }
    let vm = lab.start("measured", &["--", "sleep", "100000"]);
    vm.stop();
    record_many(lab, &vm);
    let figures = vec![
        Figure::new("emission to wake, above the fastest", "ms", milliseconds(&latencies)),
        Figure::new("99th percentile of it", "ms", vec![percentile(&latencies, 99)]),
        Figure::new("ps -a with 200 recorded VMs", "ms", milliseconds(&listings(lab))),
    ];
    Section {
        name: "events",
        title: "Events and listings on the host",
        text: "From the guest's emission of an event to the wake of `events --follow`, and `ps -a` with 200 recorded VMs."
            .to_owned(),
        figures,
        checks: Vec::new(),
    }
}

fn milliseconds(samples: &[Duration]) -> Vec<f64> {
    samples.iter().map(|sample| sample.as_secs_f64() * 1e3).collect()
}

fn percentile(samples: &[Duration], percent: usize) -> f64 {
    let mut sorted = milliseconds(samples);
    sorted.sort_by(f64::total_cmp);
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
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
