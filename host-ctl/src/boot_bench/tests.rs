//! What is said of boots, from their charts.

use firstlight_protocol::hex::BootId;

use super::*;
use crate::boot_chart::{self as chart, Row};

fn row(label: &str, kind: chart::Kind, start: f64, end: Option<f64>, critical: bool) -> Row {
    Row {
        label: label.into(),
        kind,
        start,
        end,
        thread: None,
        needs: Vec::new(),
        after: None,
        critical,
        skipped: None,
    }
}

/// A boot whose root took `root` ms.
fn boot_chart(root: f64) -> Chart {
    let up = 800.0 + root;
    let rows = vec![
        row("host", chart::Kind::Host, 0.0, Some(20.0), true),
        row("vmm", chart::Kind::Vmm, 20.0, Some(100.0), true),
        row("kernel", chart::Kind::Kernel, 100.0, Some(700.0), true),
        row("modules:block", chart::Kind::Stage, 700.0, Some(800.0), true),
        row("network", chart::Kind::Stage, 760.0, Some(790.0), false),
        row("root", chart::Kind::Stage, 800.0, Some(up), true),
        row("program", chart::Kind::Stage, up, Some(up + 12.0), true),
        row("modules:late", chart::Kind::Stage, up + 12.0, Some(up + 40.0), false),
        row("agent listens", chart::Kind::Agent, 790.0, None, false),
        row("program runs", chart::Kind::Program, up + 10.0, None, false),
    ];
    Chart {
        version: 1,
        vm: "web".into(),
        boot_id: BootId([1, 2, 3, 4]),
        running: Some(up + 10.0),
        end: 2_000.0,
        rows,
    }
}

fn boot(root: f64) -> Boot {
    let chart = boot_chart(root);
    Boot::of(&chart, 5.0, 5.0 + chart.running.unwrap() + 8.0).unwrap()
}

fn names(report: &Report) -> Vec<&str> {
    report.steps.iter().map(|step| step.step.as_str()).collect()
}

#[test]
fn phases_add_up_to_the_whole_and_stages_stand_where_they_ran() {
    let report = Report::of(&[boot(50.0)], Vec::new(), 1);
    let phases = report.steps.iter().filter(|step| step.kind == Kind::Phase);
    let sum: f64 = phases.map(|step| step.took_ms.median).sum();
    assert!((sum - report.running_ms.unwrap().median).abs() < 1e-9, "{sum}: {report:#?}");
    assert_eq!(
        names(&report),
        ["prepare", "host", "vmm", "kernel", "init", "modules:block", "network", "root", "program", "told"]
    );
}

#[test]
fn each_step_has_the_middle_and_the_extremes_of_its_own() {
    let report = Report::of(&[boot(90.0), boot(50.0), boot(60.0)], Vec::new(), 3);
    let root = report.steps.iter().find(|step| step.step == "root").unwrap();
    assert_eq!(root.took_ms, Spread { median: 60.0, min: 50.0, max: 90.0 });
    assert_eq!(root.done_ms, Spread { median: 865.0, min: 855.0, max: 895.0 });
    assert_eq!((root.runs, root.critical), (3, 3));
    assert_eq!(report.samples_ms, [913.0, 873.0, 883.0], "in the order of the runs");
}

#[test]
fn a_stage_of_some_boots_only_says_of_how_many() {
    let mut other = boot_chart(50.0);
    other.rows.retain(|row| row.label != "network");
    let boots = [boot(50.0), Boot::of(&other, 5.0, 900.0).unwrap()];
    let report = Report::of(&boots, Vec::new(), 2);
    let network = report.steps.iter().find(|step| step.step == "network").unwrap();
    assert_eq!((network.runs, network.critical), (1, 0));
}

#[test]
fn a_boot_that_never_ran_is_none_and_a_report_of_none_says_so() {
    let never = Chart { running: None, ..boot_chart(50.0) };
    assert_eq!(Boot::of(&never, 5.0, 900.0), None);
    let failed = vec![FailedRun { run: 1, reason: "no root".into() }];
    let report = Report::of(&[], failed.clone(), 5);
    assert_eq!((report.running_ms, report.steps.len(), report.failed), (None, 0, failed));
}
