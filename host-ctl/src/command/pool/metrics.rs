//! What served pools say of themselves, for `metrics`.

use std::time::Duration;

use firstlight_host_ctl::pool::client::{ClientError, ask};
use firstlight_host_ctl::pool::driver::Way;
use firstlight_host_ctl::pool::place::PoolPlace;
use firstlight_host_ctl::pool::service::Report;
use firstlight_host_ctl::pool::wire::{Answer, Request};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::cli::resolved::Context;
use crate::output::{self, Failure};

/// How long one pool may take: the metrics of all others wait for it.
const LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    pool: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InPhase {
    pool: String,
    phase: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    pool: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct By {
    pool: String,
    way: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Work {
    pool: String,
    job: &'static str,
    outcome: &'static str,
}

/// The metrics of all pools.
#[derive(Debug, Default)]
pub(crate) struct PoolMetrics {
    vms: Family<InPhase, Gauge>,
    waiting: Family<Of, Gauge>,
    degraded: Family<Of, Gauge>,
    acquires: Family<Outcome, Counter>,
    waited: Family<Of, Counter<f64, std::sync::atomic::AtomicU64>>,
    leases: Family<Outcome, Counter>,
    work: Family<Work, Counter>,
    made: Family<By, Counter>,
    fell_back: Family<Of, Counter>,
}

impl PoolMetrics {
    /// Asks every pool that is served.
    pub(crate) async fn collect(context: &Context) -> Result<PoolMetrics, Failure> {
        let metrics = PoolMetrics::default();
        for place in PoolPlace::all(&context.state_dir)? {
            match ask(&place, &Request::Status, Some(LIMIT)).await {
                Ok(Answer::Status(report)) => metrics.add(&report),
                // Nothing is known of a pool that nobody serves, which is not that it has no VMs.
                Err(ClientError::NotServed { .. }) => {}
                Ok(_) => output::note(format_args!("warning: pool {}: no status", place.name())),
                Err(error) => output::note(format_args!("warning: {error}")),
            }
        }
        Ok(metrics)
    }

    fn add(&self, report: &Report) {
        let pool = || report.pool.clone();
        let (status, counts) = (&report.status, &report.status.counts);
        for (phase, count) in &status.phases {
            self.vms.get_or_create(&InPhase { pool: pool(), phase: phase.clone() }).set(gauge(*count));
        }
        self.waiting.get_or_create(&Of { pool: pool() }).set(gauge(status.waiting));
        self.degraded.get_or_create(&Of { pool: pool() }).set(gauge(status.degraded.len()));
        self.waited.get_or_create(&Of { pool: pool() }).inc_by(counts.waited.as_secs_f64());
        for (outcome, count) in [
            ("granted", counts.granted),
            ("timed-out", counts.timed_out),
            ("refused", counts.refused),
            ("cancelled", counts.cancelled),
        ] {
            self.acquires.get_or_create(&Outcome { pool: pool(), outcome }).inc_by(count);
        }
        for (outcome, count) in
            [("released", counts.released), ("expired", counts.expired), ("renewed", counts.renewed)]
        {
            self.leases.get_or_create(&Outcome { pool: pool(), outcome }).inc_by(count);
        }
        for (job, outcome, count) in [
            ("make", "done", counts.made),
            ("make", "failed", counts.make_failed),
            ("reset", "done", counts.reset),
            ("reset", "failed", counts.reset_failed),
            ("check", "failed", counts.check_failed),
            ("destroy", "done", counts.destroyed),
            ("destroy", "failed", counts.destroy_failed),
        ] {
            self.work.get_or_create(&Work { pool: pool(), job, outcome }).inc_by(count);
        }
        for way in Way::ALL {
            let count = report.ways.counts.get(&way).copied().unwrap_or_default();
            self.made.get_or_create(&By { pool: pool(), way: way.name() }).inc_by(count);
        }
        self.fell_back.get_or_create(&Of { pool: pool() }).inc_by(report.ways.fell_back);
    }

    /// Adds them to what is printed.
    pub(crate) fn register(self, registry: &mut Registry) {
        registry.register("pool_vms", "VMs of a pool by phase", self.vms);
        registry.register("pool_waiting", "Callers that wait for a VM", self.waiting);
        registry.register("pool_degraded", "Kinds of work that fail again and again", self.degraded);
        registry.register("pool_acquires", "Callers by what they got", self.acquires);
        let help = "Time that callers waited who got a VM, added up";
        registry.register_with_unit("pool_acquire_wait", help, Unit::Seconds, self.waited);
        registry.register("pool_leases", "Leases by how they went on", self.leases);
        registry.register("pool_brought_up", "VMs made and reset, by the way in which", self.made);
        let help = "VMs booted because they could not be restored";
        registry.register("pool_restores_failed", help, self.fell_back);
        registry.register("pool_work", "VMs made, reset, checked and destroyed, by outcome", self.work);
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
