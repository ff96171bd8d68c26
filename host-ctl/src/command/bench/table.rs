//! Boots as a table.

use firstlight_host_ctl::boot_bench::{Kind, Report, Spread, StepReport};

use crate::output::Table;
use crate::output::text::printable;

const LEGEND: &str = "Phases add up to the whole of a run; stages, indented, run side by side inside init.\n\
                      DONE: from the beginning, median. CHAIN: in how many runs it decided when the program started.\n";

/// The report of boots of which one was Running at least.
pub(super) fn text(report: &Report) -> String {
    let mut table = Table::new(&["STEP", "MEDIAN ms", "   MIN ms", "   MAX ms", "  DONE ms", "CHAIN"]);
    for step in &report.steps {
        table.row(cells(step));
    }
    let whole = report.running_ms.map_or_else(String::new, |whole| heading(whole, report));
    format!("{whole}\n{}\n{LEGEND}", table.render())
}

fn heading(whole: Spread, report: &Report) -> String {
    let Spread { median, min, max } = whole;
    let (got, runs) = (report.samples_ms.len(), report.runs);
    let of = if got == runs { format!("{got}") } else { format!("{got} of {runs}") };
    format!("create to Running: {median:.1} ms, the median of {of} runs, from {min:.1} to {max:.1} ms\n")
}

fn cells(step: &StepReport) -> Vec<String> {
    let indent = match step.kind {
        Kind::Phase => "",
        Kind::Stage => "  ",
    };
    let Spread { median, min, max } = step.took_ms;
    let figures = [median, min, max, step.done_ms.median].map(|figure| format!("{figure:>9.1}"));
    // A stage's name comes from the guest.
    let mut cells = vec![format!("{indent}{}", printable(&step.step))];
    cells.extend(figures);
    cells.push(format!("{}/{}", step.critical, step.runs));
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: &str, kind: Kind, critical: usize, [median, min, max, done]: [f64; 4]) -> StepReport {
        let took_ms = Spread { median, min, max };
        let done_ms = Spread { median: done, min: done, max: done };
        StepReport { step: step.into(), kind, took_ms, done_ms, runs: 4, critical }
    }

    #[test]
    fn a_table_shows_the_whole_its_phases_and_the_stages_inside_one() {
        let report = Report {
            version: 1,
            runs: 5,
            running_ms: Some(Spread { median: 812.34, min: 790.0, max: 1061.0 }),
            samples_ms: vec![812.34; 4],
            steps: vec![
                step("kernel", Kind::Phase, 4, [580.0, 560.0, 630.0, 700.0]),
                step("init", Kind::Phase, 4, [104.25, 90.0, 150.0, 804.25]),
                step("volume:/data\x1b", Kind::Stage, 1, [12.0, 9.5, 40.0, 760.0]),
            ],
            failed: Vec::new(),
        };
        insta::assert_snapshot!(text(&report), @r"
        create to Running: 812.3 ms, the median of 4 of 5 runs, from 790.0 to 1061.0 ms

        STEP                   MEDIAN ms      MIN ms      MAX ms     DONE ms   CHAIN
        kernel                     580.0       560.0       630.0       700.0   4/4
        init                       104.2        90.0       150.0       804.2   4/4
          volume:/data\u{1b}        12.0         9.5        40.0       760.0   1/4

        Phases add up to the whole of a run; stages, indented, run side by side inside init.
        DONE: from the beginning, median. CHAIN: in how many runs it decided when the program started.
        ");
    }
}
