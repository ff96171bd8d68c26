//! Boots of one kind, measured: how long they took, and where the time went.
//!
//! ```text
//! Chart of each boot ──► Boot ──► Report ──┬──► a table
//!                                          └──► JSON   the type itself
//! ```
//!
//! A boot is cut into *phases*, one after the other and without a gap, so that they add up to its whole time; the stages
//! of init run beside each other inside the phase `init`.

mod spread;

use serde::Serialize;

pub use spread::Spread;

use crate::boot_chart::{self, Chart};

/// The phase in which stages run.
const STAGES_PHASE: &str = "init";

/// One boot. Times are milliseconds from the moment at which somebody began to make the VM.
#[derive(Debug, Clone, PartialEq)]
pub struct Boot {
    steps: Vec<Step>,
    told: f64,
}

/// A part of one boot.
#[derive(Debug, Clone, PartialEq)]
struct Step {
    name: String,
    kind: Kind,
    start: f64,
    done: f64,
    critical: bool,
}

/// What a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A part of the whole; all of them add up to it.
    Phase,
    /// A stage of init, inside the phase `init`.
    Stage,
}

/// What some boots have in common.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The version of this document; fields are added within one.
    pub version: u32,
    /// How many boots there were to be.
    pub runs: usize,
    /// From the first thing done for a VM to the word that it is Running; `None` if no boot got there.
    pub running_ms: Option<Spread>,
    /// The same of each boot that got there, in the order of the runs.
    pub samples_ms: Vec<f64>,
    /// Phases in their order, and the stages by their start after the phase that holds them.
    pub steps: Vec<StepReport>,
    /// The runs that failed.
    pub failed: Vec<FailedRun>,
}

/// One step of all boots.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// Its name.
    pub step: String,
    /// What it is.
    pub kind: Kind,
    /// How long it took.
    pub took_ms: Spread,
    /// When it was done.
    pub done_ms: Spread,
    /// How many boots had it.
    pub runs: usize,
    /// In how many of them it was on the chain that decided when the program started.
    pub critical: usize,
}

/// A run that gives no figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailedRun {
    /// Which, counted from 1.
    pub run: usize,
    /// Why.
    pub reason: String,
}

impl Boot {
    /// The boot that `chart` shows. The VM was recorded, which is the chart's origin, `recorded` ms after somebody began
    /// to make it, and `told` ms after that beginning they were told that it is Running. `None` if it never was.
    #[must_use]
    pub fn of(chart: &Chart, recorded: f64, told: f64) -> Option<Boot> {
        let running = chart.running? + recorded;
        let mut steps = vec![phase("prepare", 0.0, recorded)];
        let mut now = recorded;
        for row in chart.rows.iter().filter(|row| is_phase(row)) {
            // A row that has not ended could be of a boot that did not get to the next one, and this one did.
            let done = row.end? + recorded;
            steps.push(phase(&row.label, now, done));
            now = done;
        }
        steps.push(phase(STAGES_PHASE, now, running));
        steps.extend(chart.rows.iter().filter_map(|row| stage(row, recorded, running)));
        steps.push(phase("told", running, told.max(running)));
        Some(Boot { steps, told })
    }

    /// How long it took until somebody was told that the VM is Running.
    #[must_use]
    pub fn running_ms(&self) -> f64 {
        self.told
    }
}

fn is_phase(row: &boot_chart::Row) -> bool {
    use boot_chart::Kind;
    match row.kind {
        Kind::Host | Kind::Vmm | Kind::Kernel => true,
        Kind::Stage | Kind::Headers | Kind::Agent | Kind::Program | Kind::System => false,
    }
}

fn phase(name: &str, start: f64, done: f64) -> Step {
    Step { name: name.to_owned(), kind: Kind::Phase, start, done, critical: true }
}

/// A stage that belongs to the boot: one that began before the VM was Running.
fn stage(row: &boot_chart::Row, recorded: f64, running: f64) -> Option<Step> {
    let (start, done) = (row.start + recorded, row.end? + recorded);
    let is_stage = row.kind == boot_chart::Kind::Stage && start < running;
    is_stage.then(|| Step { name: row.label.clone(), kind: Kind::Stage, start, done, critical: row.critical })
}

impl Report {
    /// What is to be said of `boots` and of the runs that `failed`, which were to be `runs` in all.
    #[must_use]
    pub fn of(boots: &[Boot], failed: Vec<FailedRun>, runs: usize) -> Report {
        let samples_ms: Vec<f64> = boots.iter().map(|boot| boot.told).collect();
        let running_ms = Spread::of(&samples_ms);
        Report { version: 1, runs, running_ms, samples_ms, steps: steps(boots), failed }
    }
}

/// The steps of all boots, each once, in the order of their median starts; a phase goes before what runs inside it.
fn steps(boots: &[Boot]) -> Vec<StepReport> {
    let mut order: Vec<(&str, Kind)> = Vec::new();
    for step in boots.iter().flat_map(|boot| &boot.steps) {
        if !order.contains(&(step.name.as_str(), step.kind)) {
            order.push((&step.name, step.kind));
        }
    }
    let mut reports: Vec<(f64, StepReport)> =
        order.into_iter().filter_map(|(name, kind)| report(boots, name, kind)).collect();
    // Stable, and phases come first where they begin with a stage.
    reports.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    reports.into_iter().map(|(_, report)| report).collect()
}

/// The step `name` of all boots, with its median start.
fn report(boots: &[Boot], name: &str, kind: Kind) -> Option<(f64, StepReport)> {
    let of_boot =
        |boot: &Boot| boot.steps.iter().find(|step| step.name == name && step.kind == kind).cloned();
    let steps: Vec<Step> = boots.iter().filter_map(of_boot).collect();
    let spread = |figure: fn(&Step) -> f64| Spread::of(&steps.iter().map(figure).collect::<Vec<f64>>());
    let report = StepReport {
        step: name.to_owned(),
        kind,
        took_ms: spread(|step| step.done - step.start)?,
        done_ms: spread(|step| step.done)?,
        runs: steps.len(),
        critical: steps.iter().filter(|step| step.critical).count(),
    };
    Some((spread(|step| step.start)?.median, report))
}

#[cfg(test)]
mod tests;
