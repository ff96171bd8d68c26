//! `stats [--watch] [--interval] [NAME...]`

use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::agent::batch::{perform_one, report};
use firstlight_host_ctl::agent::rates::Rates;
use firstlight_host_ctl::vm::{Store, VmDir};
use firstlight_protocol::lifecycle::State;
use firstlight_protocol::message::batch::{Answer, Operation, Outcome};
use firstlight_protocol::message::stats;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use super::explain::agent_failure;
use super::guest::Requests;
use super::several::at_once;
use crate::cli::resolved::Context;
use crate::cli::value::duration;
use crate::output::{self, Failure, Format, Table, text};

/// How long a guest may take to count.
const LIMIT: Duration = Duration::from_secs(5);

/// Show what running VMs use
///
/// Rates are of the time between two counts; levels and totals are of the second.
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Names, or unique beginnings of ids [default: every running VM]
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Go on until interrupted
    #[arg(long)]
    watch: bool,

    /// Between two counts
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
}

/// The shortest time between two counts: a VM is to be observed and not to be loaded.
const SHORTEST: Duration = Duration::from_millis(100);

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = duration::parse(text)?;
    if interval < SHORTEST {
        Err(format!("counts are {} apart at least", duration::show(SHORTEST)))
    } else {
        Ok(interval)
    }
}

/// One VM, and what it counted last.
struct Counted {
    requests: Requests,
    last: stats::Stats,
}

/// What is shown of one VM.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    usage: Usage,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case", untagged)]
enum Usage {
    Counted { stats: Box<stats::Stats>, rates: Option<Rates> },
    Failed { error: String },
}

/// What is printed as JSON, a line a count.
#[derive(Debug, Serialize)]
struct Report<'a> {
    version: u32,
    vms: &'a [Row],
}

impl Stats {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let select = self.select(context)?.into_iter();
        let mut vms = at_once(select.map(|vm| Counted::begin(context.clone(), vm))).await?;
        let mut ticks = interval(self.interval);
        // A guest that was slow is asked again later, not at once and twice.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let counting = std::mem::take(&mut vms).into_iter().map(Counted::next);
            let (counted, rows): (_, Vec<Row>) = at_once(counting).await?.into_iter().unzip();
            vms = counted;
            match context.format {
                Format::Json => output::json_line(&Report { version: 1, vms: &rows })?,
                Format::Text if self.watch => output::screen(&table(&rows))?,
                Format::Text => output::text(&table(&rows))?,
            }
            let failed = rows.iter().filter(|row| matches!(row.usage, Usage::Failed { .. })).count();
            // Nobody is left to watch.
            if !self.watch || (failed == rows.len() && !rows.is_empty()) {
                return if failed == 0 { Ok(()) } else { Err(Failure::exit(1)) };
            }
        }
    }

    fn select(&self, context: &Context) -> Result<Vec<VmDir>, Failure> {
        let store = Store::open(&context.state_dir)?;
        if !self.names.is_empty() {
            return self.names.iter().map(|name| Ok(store.resolve(name)?)).collect();
        }
        let running =
            |vm: &VmDir| vm.view().is_ok_and(|view| view.state == State::Running && !view.skip_guest_agent);
        Ok(store.list()?.into_iter().filter(running).collect())
    }
}

impl Counted {
    async fn begin(context: Context, vm: VmDir) -> Result<Counted, Failure> {
        let requests = Requests::to(&context, &vm, "stats").await?;
        let last = count(&requests).await.map_err(|error| error.failure(requests.name()))?;
        Ok(Counted { requests, last })
    }

    /// Counts once more. A VM that does not answer keeps its row and says why.
    async fn next(mut self) -> Result<(Counted, Row), Failure> {
        let usage = match count(&self.requests).await {
            Ok(stats) => {
                let rates = Rates::between(&self.last, &stats);
                self.last = stats.clone();
                Usage::Counted { stats: Box::new(stats), rates }
            }
            Err(error) => Usage::Failed { error: error.text() },
        };
        let name = self.requests.name().to_owned();
        Ok((self, Row { name, usage }))
    }
}

/// A guest did not count.
enum CountError {
    Unanswered(firstlight_host_ctl::agent::Error),
    Refused(Outcome),
}

impl CountError {
    fn text(&self) -> String {
        match self {
            CountError::Unanswered(error) => error.to_string(),
            CountError::Refused(outcome) => report::summary(outcome),
        }
    }

    fn failure(&self, vm: &str) -> Failure {
        match self {
            CountError::Unanswered(error) => agent_failure(error, vm),
            CountError::Refused(_) => Failure::failed(self.text()).of_vm(vm),
        }
    }
}

async fn count(requests: &Requests) -> Result<stats::Stats, CountError> {
    let outcome = perform_one(requests.agent(), Operation::Stats, LIMIT).await;
    let outcome = outcome.map_err(CountError::Unanswered)?;
    match outcome {
        Outcome::Done(Answer::Stats(stats)) => Ok(*stats),
        Outcome::Done(_) | Outcome::Error(_) | Outcome::Skipped(_) | Outcome::TimedOut(_) => {
            Err(CountError::Refused(outcome))
        }
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "NAME",
        "CPU %",
        "MEM USED / TOTAL",
        "MEM %",
        "NET IN / OUT",
        "DISK READ / WRITTEN",
        "TASKS",
        "STALLED % CPU / MEM / IO",
    ]);
    for row in rows {
        let cells = match &row.usage {
            Usage::Counted { stats, rates } => cells(stats, rates.as_ref()),
            Usage::Failed { error } => [vec!["-".to_owned(); 6], vec![text::printable(error)]].concat(),
        };
        table.row([vec![row.name.clone()], cells].concat());
    }
    table.render()
}

fn cells(stats: &stats::Stats, rates: Option<&Rates>) -> Vec<String> {
    let pair = |first: u64, second: u64| format!("{} / {}", text::bytes(first), text::bytes(second));
    let links = || stats.links.iter();
    let disks = || stats.disks.iter();
    let memory = &stats.memory;
    // Hundredths of a per cent, so that no fraction is lost on the way.
    let share = u128::from(memory.used()) * 10_000 / u128::from(memory.total.max(1));
    let pressure = stats.pressure.map_or_else(
        || "-".to_owned(),
        |pressure| {
            let share = |stalls: stats::Stalls| stalls.some.avg10.as_f64();
            format!("{:.1} / {:.1} / {:.1}", share(pressure.cpu), share(pressure.memory), share(pressure.io))
        },
    );
    vec![
        rates.map_or_else(|| "-".into(), |rates| format!("{:.1}", rates.cpu_percent)),
        pair(memory.used(), memory.total),
        format!("{}.{}", share / 100, share % 100 / 10),
        pair(links().map(|link| link.received.bytes).sum(), links().map(|link| link.sent.bytes).sum()),
        pair(disks().map(|disk| disk.read_bytes).sum(), disks().map(|disk| disk.written_bytes).sum()),
        stats.tasks.to_string(),
        pressure,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_like_docker_s_and_a_failure_takes_one_too() {
        let stats = stats::Stats {
            at_ns: 1,
            cpu: stats::Cpu::default(),
            memory: stats::Memory { total: 256 << 20, available: 192 << 20, ..stats::Memory::default() },
            tasks: 42,
            disks: Vec::new(),
            filesystems: Vec::new(),
            links: Vec::new(),
            pressure: None,
            program: None,
        };
        let rates = Rates {
            interval_ms: 1000.0,
            cpu_percent: 12.34,
            program_cpu_percent: None,
            received_per_second: 0.0,
            sent_per_second: 0.0,
            read_per_second: 0.0,
            written_per_second: 0.0,
        };
        let row = |name: &str, usage| Row { name: name.into(), usage };
        let rows = [
            row("web", Usage::Counted { stats: Box::new(stats), rates: Some(rates) }),
            row("gone", Usage::Failed { error: "the connection to the agent was lost".into() }),
        ];
        insta::assert_snapshot!(table(&rows), @r"
        NAME   CPU %   MEM USED / TOTAL   MEM %   NET IN / OUT   DISK READ / WRITTEN   TASKS   STALLED % CPU / MEM / IO
        web    12.3    64.0MiB / 256MiB   25.0    0B / 0B        0B / 0B               42      -
        gone   -       -                  -       -              -                     -       the connection to the agent was lost
        ");
    }
}
