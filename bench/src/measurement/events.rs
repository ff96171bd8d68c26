//! From the guest's emission of an event to the wake of `host-ctl events --follow`.
//!
//! Guest and host have no common clock, so each latency is given above the fastest one of the run; the fastest itself is
//! about half a round trip over vsock.

use std::time::{Duration, Instant};

use firstlight_tests::Vm;

use super::Context;
use crate::report::{Figure, Section};

/// How often the agent of each VM is killed; each time gives two events. Init waits longer before each restart, so
/// several VMs are quicker than many kills of one.
const KILLS: usize = 8;
const VMS: usize = 8;

/// The section of the report.
pub(crate) fn measure(context: &Context) -> Section {
    let lab = &context.lab;
    let mut latencies = Vec::new();
    for index in 0..VMS {
        let vm = lab.start(&format!("woken-{index}"), &["--", "sleep", "100000"]);
        latencies.extend(wake(&vm));
        vm.remove();
    }
    let wake = Figure::new("emission to wake, above the fastest", "ms", latencies);
    let late = Figure::new("99th percentile of it", "ms", vec![wake.percentile(99)]);
    Section {
        name: "events",
        title: "Events on the host",
        text: "From the guest's emission of an event to the wake of `events --follow`; the median is the 50th percentile."
            .to_owned(),
        figures: vec![wake, late],
        checks: Vec::new(),
    }
}

/// Kills the agent again and again, and notes how many milliseconds later than the fastest each event was read.
fn wake(vm: &Vm<'_>) -> Vec<f64> {
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
    let above = |difference: i128| {
        Duration::from_nanos(u64::try_from(difference - fastest).unwrap()).as_secs_f64() * 1e3
    };
    differences.into_iter().map(above).collect()
}
