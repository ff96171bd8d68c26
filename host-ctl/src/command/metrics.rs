//! `metrics`: what the records of all VMs add up to, and what pools say of themselves, as Prometheus text.
//!
//! Names and units follow Prometheus' conventions: base units, `_total` on counters, one label for what is counted.
//! A VM counts for as long as it exists; its numbers go with it, which Prometheus takes for a counter's reset.

use clap::Args;
use firstlight_host_ctl::vm::{Store, VmView};
use firstlight_protocol::sentinel::Event;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::pool::metrics::PoolMetrics;
use crate::cli::resolved::Context;
use crate::output::{self, Failure};

/// Print metrics of all VMs and pools as Prometheus text
#[derive(Debug, Args)]
#[command(after_help = "For node_exporter: host-ctl metrics >/var/lib/node_exporter/firstlight.prom")]
pub(crate) struct Metrics {}

impl Metrics {
    pub(crate) async fn run(&self, context: &Context) -> Result<(), Failure> {
        let store = Store::open(&context.state_dir)?;
        let metrics = Collected::default();
        for vm in store.list()? {
            metrics.add(&vm.view()?);
        }
        let pools = PoolMetrics::collect(context).await?;
        output::text(&metrics.render(pools)?)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: String,
}

/// Every state has its line, so that a graph shows zero and not a gap.
const STATES: [&str; 8] =
    ["created", "initializing", "running", "paused", "stopping", "stopped", "failed", "unknown"];

struct Collected {
    vms: Family<StateLabel, Gauge>,
    running: Histogram,
    initializing: Histogram,
    stages: Family<StageLabel, Histogram>,
    failed: Family<StageLabel, Counter>,
    restarts: Counter,
    headers: Family<OutcomeLabel, Counter>,
}

impl Default for Collected {
    fn default() -> Self {
        // From 50 ms to 51 s: snapshots at one end, systemd under emulation at the other.
        let boot = || Histogram::new(exponential_buckets(0.05, 2.0, 11));
        // From 0.1 ms to 26 s.
        let stage = || Histogram::new(exponential_buckets(0.000_1, 4.0, 10));
        Collected {
            vms: Family::default(),
            running: boot(),
            initializing: boot(),
            stages: Family::new_with_constructor(stage),
            failed: Family::default(),
            restarts: Counter::default(),
            headers: Family::default(),
        }
    }
}

impl Collected {
    fn add(&self, view: &VmView) {
        self.vms.get_or_create(&StateLabel { state: view.state.name().into() }).inc();
        let timings = &view.timings;
        if let Some(running) = timings.running {
            self.running.observe(running / 1_000.0);
        }
        if let Some((start, end)) = timings.vmm_started.zip(timings.running.or(timings.vmm_exited)) {
            self.initializing.observe((end - start).max(0.0) / 1_000.0);
        }
        for stage in &timings.stages {
            self.stages.get_or_create(&stage_label(&stage.stage)).observe(stage.dur / 1_000.0);
        }
        if let Some(failure) = &view.failure {
            self.failed.get_or_create(&stage_label(&failure.stage)).inc();
        }
        self.restarts.inc_by(view.agent_restarts.into());
        for event in &view.events {
            if let Some(outcome) = headers_outcome(&event.sentinel.event) {
                self.headers.get_or_create(&OutcomeLabel { outcome: outcome.into() }).inc();
            }
        }
    }

    fn render(self, pools: PoolMetrics) -> Result<String, Failure> {
        for state in STATES {
            drop(self.vms.get_or_create(&StateLabel { state: state.into() }));
        }
        let mut registry = Registry::with_prefix("firstlight");
        registry.register("vms", "VMs by lifecycle state", self.vms);
        let seconds = || Unit::Seconds;
        let help = "Time from a VM's creation, or its later start, to Running";
        registry.register_with_unit("time_to_running", help, seconds(), self.running);
        let help = "Time from the VMM's start to Running, or to the end of a boot that never ran";
        registry.register_with_unit("initializing", help, seconds(), self.initializing);
        registry.register_with_unit("boot_stage", "Time in each stage of the boot", seconds(), self.stages);
        registry.register("boot_failures", "Boots that failed, by stage", self.failed);
        registry.register("agent_restarts", "Agents that ended and were started again", self.restarts);
        registry.register("headers", "Installations of kernel headers, by outcome", self.headers);
        pools.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry)
            .map_err(|error| Failure::failed(format!("cannot write metrics: {error}")))?;
        Ok(text)
    }
}

/// Volumes are named after their targets, which would be as many labels as there are paths.
fn stage_label(stage: &str) -> StageLabel {
    let name = if stage.starts_with("volume:") { "volume" } else { stage };
    StageLabel { stage: name.into() }
}

fn headers_outcome(event: &Event) -> Option<&'static str> {
    match event {
        Event::HeadersReady => Some("ready"),
        Event::HeadersSkipped { .. } => Some("skipped"),
        Event::HeadersFailed { .. } => Some("failed"),
        Event::InitStart
        | Event::Restored { .. }
        | Event::StageDone { .. }
        | Event::AgentReady
        | Event::AgentExit { .. }
        | Event::ProgramStart { .. }
        | Event::SystemReady { .. }
        | Event::HeadersStart
        | Event::Exit { .. }
        | Event::Fatal { .. }
        | Event::PowerOff => None,
    }
}
