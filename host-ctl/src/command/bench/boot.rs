//! `bench boot [--runs N] [FLAGS] [-- CMD ARG...]`

use std::time::Duration;

use clap::Args;
use firstlight_host_ctl::boot_bench::{Boot, FailedRun, Report};
use firstlight_host_ctl::boot_chart::Chart;
use firstlight_host_ctl::clock::Stamp;
use firstlight_host_ctl::vm::Store;
use tokio::time::timeout;

use super::table;
use crate::cli::resolved::{Context, ProgressStyle};
use crate::cli::value::duration;
use crate::command::run::{Started, Unstarted, VmOptions, before_running, resolve_spec};
use crate::command::stop::stop;
use crate::interrupt::{Interrupt, Interrupts, SIGINT};
use crate::output::{self, Failure, Format};
use crate::progress::Progress;

/// What to do about a run whose VM is gone with its console.
const HINT: &str =
    "boot one to look into, with the same flags: host-ctl run --name NAME; then host-ctl logs --all NAME";

/// Show how long VMs take from create to Running, and where the time goes
///
/// Boots VMs one after the other, each made anew from the flags of run, and stops and removes each once it is Running.
/// Shows the median of all runs with the extremes: of the whole, of its phases, and of each stage of init. The first
/// Ctrl-C removes the VM of the moment and shows what was measured so far. If the first run fails, there is no second.
#[derive(Debug, Args)]
#[command(after_help = "Example: host-ctl bench boot --runs 9 --rootfs debian.ext4 --kernel ./bzImage")]
pub(crate) struct BenchBoot {
    /// How many VMs to boot
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    runs: u16,

    /// Take a run for failed, and end its VM, if it is not Running by then
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "60s")]
    timeout: Duration,

    #[command(flatten)]
    vm: VmOptions,
}

/// Why a run gives no figures.
enum NoFigures {
    /// There was nothing to start.
    Refused(Failure),
    /// A VM was made, and is gone.
    Failed(Failure),
    /// A signal came: this one.
    Interrupted(u8),
}

/// What came of the runs so far.
#[derive(Default)]
struct Tally {
    boots: Vec<Boot>,
    failed: Vec<FailedRun>,
    /// The exit code: that of the first thing that went wrong.
    exit: Option<u8>,
}

impl BenchBoot {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let store = Store::open(&context.state_dir)?;
        // From here on a signal removes the VM of the moment, and does not end us before we could.
        let mut interrupts = Interrupts::listen()?;
        let mut tally = Tally::default();
        for number in 1..=usize::from(self.runs) {
            let run = format!("run {number} of {}", self.runs);
            match self.measure(&store, &mut interrupts, context).await {
                Ok(boot) => tally.measured(boot, &run, context),
                Err(NoFigures::Interrupted(signal)) => {
                    output::note(format_args!("interrupted in {run}"));
                    tally.exit = Some(128 + signal);
                    break;
                }
                // What is wrong with the first VM is wrong with all: it is said once.
                Err(NoFigures::Refused(failure)) if number == 1 => return Err(failure),
                Err(NoFigures::Failed(failure)) if number == 1 => return Err(failure.within(&run)),
                Err(NoFigures::Refused(failure) | NoFigures::Failed(failure)) => {
                    tally.failed(&failure.within(&run), number, context);
                }
            }
        }
        tally.show(usize::from(self.runs), context)
    }

    /// Makes a VM, boots it and removes it.
    async fn measure(
        &self,
        store: &Store,
        interrupts: &mut Interrupts,
        context: &Context,
    ) -> Result<Boot, NoFigures> {
        let begun = Stamp::now();
        let (spec, draft) = resolve_spec(&self.vm, None, store).map_err(NoFigures::Refused)?;
        let vm = draft.commit(&spec).map_err(|error| NoFigures::Refused(error.into()))?;
        let started = Unstarted::new(store, vm).start().await.map_err(NoFigures::Failed)?;
        let measured = tokio::select! {
            measured = self.attend(&started, begun, context) => measured.map_err(NoFigures::Failed),
            interrupt = interrupts.next() => Err(NoFigures::Interrupted(number_of(interrupt))),
        };
        // In order after its figures were taken, by force where it did not come to that.
        started.remove().await;
        measured
    }

    /// Waits until the VM is Running, ends it, and looks at how it came there.
    async fn attend(&self, started: &Started<'_>, begun: Stamp, context: &Context) -> Result<Boot, Failure> {
        let mut progress = Progress::start(live(context.progress), &started.vm.spec().name);
        let Ok(reached) = timeout(self.timeout, started.reach_running(|view| progress.show(view))).await
        else {
            progress.clear();
            return Err(started.too_slow(self.timeout).await.hint(format!("{HINT}; more time: --timeout")));
        };
        let told = Stamp::now().ms_since(&begun);
        progress.clear();
        let view = reached?;
        if view.timings.running.is_none() {
            return Err(before_running(&view, false).hint(HINT));
        }
        // Volumes are left as clean as they were found, and the last stage reports its end after the program's start.
        stop(&started.vm, None).await?;
        let recorded = started.vm.fold()?.created().map(|created| created.ms_since(&begun));
        let chart = Chart::of(&started.vm.view()?);
        let boot = chart.zip(recorded).and_then(|(chart, recorded)| Boot::of(&chart, recorded, told));
        boot.ok_or_else(|| Failure::failed(format!("the journal of {} has no whole boot", view.name)))
    }
}

impl Tally {
    fn measured(&mut self, boot: Boot, run: &str, context: &Context) {
        if context.progress != ProgressStyle::Silent {
            output::note(format_args!("{run}: running after {:.1} ms", boot.running_ms()));
        }
        self.boots.push(boot);
    }

    fn failed(&mut self, failure: &Failure, run: usize, context: &Context) {
        output::fail(failure, context.format);
        self.failed.push(FailedRun { run, reason: failure.message().to_owned() });
        self.exit.get_or_insert(failure.exit_code());
    }

    fn show(self, runs: usize, context: &Context) -> Result<(), Failure> {
        if !self.boots.is_empty() {
            let report = Report::of(&self.boots, self.failed, runs);
            match context.format {
                Format::Json => output::json(&report)?,
                Format::Text => output::text(&table::text(&report))?,
            }
        }
        self.exit.map_or(Ok(()), |code| Err(Failure::exit(code)))
    }
}

fn number_of(interrupt: Interrupt) -> u8 {
    match interrupt {
        Interrupt::First(number) => number,
        Interrupt::Again => SIGINT,
    }
}

/// A line for each run says enough where there is none to draw over.
fn live(style: ProgressStyle) -> ProgressStyle {
    match style {
        ProgressStyle::Live { color } => ProgressStyle::Live { color },
        ProgressStyle::Lines | ProgressStyle::Silent => ProgressStyle::Silent,
    }
}
