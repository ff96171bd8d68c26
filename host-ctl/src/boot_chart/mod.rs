//! A boot as a timeline: what ran when, on which thread, after what.
//!
//! ```text
//! Timings ──► Chart ──┬──► text   for a terminal
//!                     ├──► svg    for a browser
//!                     └──► JSON   the type itself
//! ```
//!
//! The *critical path* is the chain that decided when the program started: from it back to the stage it waited for
//! longest, to what that one waited for, and so on to the kernel and the host. Shortening anything else gains nothing.

mod svg;
mod text;

use firstlight_protocol::hex::BootId;
use serde::Serialize;

use crate::vm::VmView;
use crate::vm::timings::{StageTiming, Timings};

/// The stage of init at whose end a boot is up.
const LAST_STAGE: &str = "program";

/// Room after the last thing that belongs to the boot, as a share of it: what goes on is seen to go on.
const MARGIN: f64 = 0.08;

/// The timeline of a VM's latest boot. Times are milliseconds from the boot's origin: the VM's creation, or the start
/// that was asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Chart {
    /// The version of this document; fields are added within one.
    pub version: u32,
    /// The VM.
    pub vm: String,
    /// The boot.
    pub boot_id: BootId,
    /// When the VM was Running.
    pub running: Option<f64>,
    /// Where the chart ends. Rows may go on beyond it.
    pub end: f64,
    /// From top to bottom: the host's part, the kernel, the stages by their start, then what runs on.
    pub rows: Vec<Row>,
}

/// One bar.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// What it is called.
    pub label: String,
    /// What it is.
    pub kind: Kind,
    /// When it began.
    pub start: f64,
    /// When it ended; `None` while it goes on.
    pub end: Option<f64>,
    /// The thread of init it ran on; 0 is the supervisor's.
    pub thread: Option<u32>,
    /// What it waited for, by label.
    pub needs: Vec<String>,
    /// The one of them that ended last.
    pub after: Option<String>,
    /// Whether it is on the critical path.
    pub critical: bool,
    /// Why an optional stage did nothing.
    pub skipped: Option<String>,
}

/// What a bar stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// host-ctl prepares disks and the initramfs.
    Host,
    /// The VMM starts and loads the kernel.
    Vmm,
    /// The kernel, up to init's first event.
    Kernel,
    /// A stage of init.
    Stage,
    /// The headers worker.
    Headers,
    /// The agent, from the moment it listens.
    Agent,
    /// The program.
    Program,
    /// The image's own init starts its units (systemd mode).
    System,
}

impl Chart {
    /// The chart of the latest boot; `None` if the VM has not been started yet.
    #[must_use]
    pub fn of(view: &VmView) -> Option<Chart> {
        let timings = &view.timings;
        let mut rows = before_init(timings);
        rows.extend(stages(&timings.stages));
        rows.extend(after_init(timings));
        mark_critical(&mut rows);
        let boot_id = view.boot_id?;
        Some(Chart {
            version: 1,
            vm: view.name.clone(),
            boot_id,
            running: timings.running,
            end: end(timings),
            rows,
        })
    }
}

impl Row {
    fn new(label: &str, kind: Kind, start: f64, end: Option<f64>) -> Row {
        Row {
            label: label.to_owned(),
            kind,
            start,
            end,
            thread: None,
            needs: Vec::new(),
            after: None,
            critical: false,
            skipped: None,
        }
    }

    /// How long it took, in ms; `None` while it goes on.
    #[must_use]
    pub fn duration(&self) -> Option<f64> {
        self.end.map(|end| end - self.start)
    }
}

/// The host, the VMM and the kernel: one after the other, and all of it on the critical path.
fn before_init(timings: &Timings) -> Vec<Row> {
    let steps = [
        ("host", Kind::Host, Some(0.0), timings.vmm_started),
        ("vmm", Kind::Vmm, timings.vmm_started, timings.kernel_start),
        ("kernel", Kind::Kernel, timings.kernel_start, timings.init_start),
    ];
    let row = |(label, kind, start, end): (&str, Kind, Option<f64>, Option<f64>)| {
        start.map(|start| Row { critical: true, ..Row::new(label, kind, start, end) })
    };
    steps.into_iter().filter_map(row).collect()
}

fn stages(timings: &[StageTiming]) -> Vec<Row> {
    let row = |stage: &StageTiming| {
        let needs = timings.iter().filter(|other| stage.needs.contains(&other.stage));
        let after = needs.max_by(|a, b| a.done.total_cmp(&b.done)).map(|last| last.stage.clone());
        Row {
            thread: stage.thread,
            needs: stage.needs.clone(),
            after,
            skipped: stage.skipped.clone(),
            ..Row::new(&stage.stage, Kind::Stage, stage.start, Some(stage.done))
        }
    };
    let mut rows: Vec<Row> = timings.iter().map(row).collect();
    rows.sort_by(|a, b| a.start.total_cmp(&b.start));
    rows
}

fn after_init(timings: &Timings) -> Vec<Row> {
    let rows = [
        ("headers worker", Kind::Headers, timings.headers_start, timings.headers_done),
        ("agent listens", Kind::Agent, timings.agent_ready, timings.power_off),
        ("program runs", Kind::Program, timings.program_start, timings.exit.or(timings.power_off)),
        (
            "system starts",
            Kind::System,
            timings.program_start.and(timings.system_ready),
            timings.system_ready,
        ),
    ];
    let row = |(label, kind, start, end): (&str, Kind, Option<f64>, Option<f64>)| {
        let start = if kind == Kind::System { start.and(timings.program_start) } else { start };
        // A VM that is gone has nothing that goes on.
        start.map(|start| Row::new(label, kind, start, end.or(timings.vmm_exited)))
    };
    rows.into_iter().filter_map(row).collect()
}

/// Marks the chain from the program back to what needs nothing.
fn mark_critical(rows: &mut [Row]) {
    let mut next = Some(LAST_STAGE.to_owned());
    while let Some(label) = next.take() {
        let found =
            rows.iter_mut().find(|row| row.kind == Kind::Stage && row.label == label && !row.critical);
        if let Some(row) = found {
            row.critical = true;
            next.clone_from(&row.after);
        }
    }
}

/// The end of the boot, with room to see what goes on. How long the program ran afterwards is not the boot's.
fn end(timings: &Timings) -> f64 {
    let stages = timings.stages.iter().map(|stage| stage.done);
    let others = [
        timings.vmm_started,
        timings.kernel_start,
        timings.init_start,
        timings.agent_ready,
        timings.program_start,
        timings.running,
        timings.system_ready,
    ];
    stages.chain(others.into_iter().flatten()).fold(1.0, f64::max) * (1.0 + MARGIN)
}

/// A step between marks on the axis: 1, 2 or 5 times a power of ten, so that there are at most `marks` of them.
fn tick(end: f64, marks: f64) -> f64 {
    let least = end / marks;
    let power = 10_f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= least).unwrap_or(10.0 * power)
}

#[cfg(test)]
mod tests;
