//! A file a command: its arguments, and what it does.

mod attach;
mod batch;
mod bench;
mod boot_chart;
mod completion;
mod cp;
mod doctor;
mod events;
mod exec;
mod explain;
mod file;
mod forward;
mod guest;
mod headers;
mod health;
mod image;
mod inspect;
mod kill;
mod last_known;
mod logs;
mod man;
mod metrics;
pub(crate) mod monitor;
mod pause;
mod pool;
mod probe;
mod ps;
mod restore;
mod rm;
mod run;
mod session;
mod sessions;
mod several;
mod shell;
mod snapshot;
mod snapshots;
mod start;
mod stats;
mod stop;
mod sync;
mod wait;

use std::process::ExitCode;

use clap::Subcommand;

use crate::cli::resolved::Context;
use crate::output::Failure;

/// The commands, in the order of `--help`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(Box<run::Run>),
    Ps(ps::Ps),
    Inspect(inspect::Inspect),
    Wait(wait::Wait),
    Exec(Box<exec::Exec>),
    Shell(shell::Shell),
    Attach(attach::Attach),
    Sessions(sessions::Sessions),
    Batch(batch::Batch),
    Probe(probe::Probe),
    Cp(cp::Cp),
    File(file::File),
    Sync(sync::Sync),
    Forward(forward::Forward),
    Logs(logs::Logs),
    Events(events::Events),
    Stats(stats::Stats),
    Health(health::Health),
    Start(start::Start),
    Stop(stop::Stop),
    Kill(kill::Kill),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Rm(rm::Rm),
    Pool(pool::Pool),
    Snapshot(snapshot::Snapshot),
    Snapshots(snapshots::Snapshots),
    Restore(restore::Restore),
    BootChart(boot_chart::BootChart),
    Bench(bench::Bench),
    #[command(subcommand)]
    Headers(headers::Headers),
    Image(image::Image),
    Metrics(metrics::Metrics),
    Doctor(doctor::Doctor),
    Completion(completion::Completion),
    Man(man::Man),
    Monitor(monitor::Monitor),
    TerminalGuard(session::TerminalGuard),
}

impl Command {
    /// Does the command. The exit code of one that ends well is 0, but for those that run a program.
    pub(crate) async fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        match self {
            Command::Run(run) => run.run(context).await.map_err(Failure::of_a_program_runner),
            Command::Exec(exec) => exec.run(context).await.map_err(Failure::of_a_program_runner),
            Command::Shell(shell) => shell.run(context).await.map_err(Failure::of_a_program_runner),
            Command::Attach(attach) => attach.run(context).await.map_err(Failure::of_a_program_runner),
            Command::Sessions(sessions) => sessions.run(context).await.map(done),
            Command::Cp(cp) => cp.run(context).await.map(done),
            Command::File(file) => file.run(context).await.map(done),
            Command::Ps(ps) => ps.run(context).await.map(done),
            Command::Inspect(inspect) => inspect.run(context).await.map(done),
            Command::Wait(wait) => wait.run(context).await.map(done),
            Command::Sync(sync) => sync.run(context).await.map(done),
            Command::Forward(forward) => forward.run(context).await.map(done),
            Command::Batch(batch) => batch.run(context).await.map(done),
            Command::Probe(probe) => probe.run(context).await.map(done),
            Command::Logs(logs) => logs.run(context).await.map(done),
            Command::Events(events) => events.run(context).await.map(done),
            Command::Stats(stats) => stats.run(context).await.map(done),
            Command::Health(health) => health.run(context).await.map(done),
            Command::Start(start) => start.run(context).await.map(done),
            Command::Stop(stop) => stop.run(context).await.map(done),
            Command::Kill(kill) => kill.run(context).await.map(done),
            Command::Pause(pause) => pause.run(context).await.map(done),
            Command::Resume(resume) => resume.run(context).await.map(done),
            Command::Rm(rm) => rm.run(context).await.map(done),
            Command::Pool(pool) => pool.run(context).await,
            Command::Snapshot(snapshot) => snapshot.run(context).await.map(done),
            Command::Snapshots(snapshots) => snapshots.run(context).map(done),
            Command::Restore(restore) => restore.run(context).await,
            Command::BootChart(chart) => chart.run(context).await.map(done),
            Command::Bench(bench) => bench.run(context).await.map(done),
            Command::Headers(headers) => headers.run(context).map(done),
            Command::Image(image) => image.run(context).map(done),
            Command::Metrics(metrics) => metrics.run(context).await.map(done),
            Command::Doctor(doctor) => doctor.run(context).await.map(done),
            Command::Completion(completion) => completion.run().map(done),
            Command::Man(man) => man.run().map(done),
            Command::Monitor(monitor) => monitor.run().map(done),
            Command::TerminalGuard(guard) => guard.run().map(done),
        }
    }
}

fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}
