//! What is drawn, from timings.

use super::*;

fn stage(name: &str, start: f64, done: f64, thread: u32, needs: &[&str]) -> StageTiming {
    StageTiming {
        stage: name.into(),
        start,
        done,
        dur: done - start,
        thread: Some(thread),
        needs: needs.iter().map(|need| (*need).to_owned()).collect(),
        skipped: None,
    }
}

fn timings() -> Timings {
    Timings {
        vmm_started: Some(20.0),
        kernel_start: Some(100.0),
        init_start: Some(700.0),
        agent_ready: Some(950.0),
        program_start: Some(990.0),
        running: Some(990.0),
        headers_start: Some(900.0),
        headers_done: Some(9_000.0),
        // In the order in which they ended.
        stages: vec![
            stage("modules:net", 700.0, 760.0, 2, &[]),
            stage("modules:block", 700.0, 800.0, 1, &[]),
            stage("network", 760.0, 810.0, 2, &["modules:net"]),
            stage("root", 800.0, 860.0, 1, &["modules:block"]),
            stage("agent", 861.0, 955.0, 0, &["root"]),
            stage("program", 956.0, 992.0, 0, &["network", "agent"]),
        ],
        ..Timings::default()
    }
}

fn chart() -> Chart {
    let timings = timings();
    let mut rows = before_init(&timings);
    rows.extend(stages(&timings.stages));
    rows.extend(after_init(&timings));
    mark_critical(&mut rows);
    Chart {
        version: 1,
        vm: "web<1>".into(),
        boot_id: BootId([1, 2, 3, 4]),
        running: timings.running,
        end: end(&timings),
        rows,
    }
}

#[test]
fn the_critical_path_is_the_chain_that_ended_last() {
    let critical: Vec<String> =
        chart().rows.into_iter().filter(|row| row.critical).map(|row| row.label).collect();
    assert_eq!(critical, ["host", "vmm", "kernel", "modules:block", "root", "agent", "program"]);
}

#[test]
fn a_boot_is_lines_on_a_terminal() {
    insta::assert_snapshot!(chart().to_text(100));
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [80, 100, 200] {
        let text = chart().to_text(width);
        for line in text.lines().filter(|line| !line.contains("beside it")) {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
}

#[test]
fn a_boot_that_did_not_come_far_is_drawn_as_far_as_it_came() {
    let timings = Timings { vmm_started: Some(20.0), vmm_exited: Some(50.0), ..Timings::default() };
    let rows = before_init(&timings);
    let labels: Vec<&str> = rows.iter().map(|row| row.label.as_str()).collect();
    assert_eq!(labels, ["host", "vmm"]);
    assert!(end(&timings) > 20.0);
}

#[test]
fn the_picture_is_well_formed_and_has_a_bar_for_each_row() {
    let chart = chart();
    let svg = chart.to_svg();
    let mut bars = 0;
    for event in ::svg::read(&svg).unwrap() {
        assert!(!matches!(event, ::svg::parser::Event::Error(_)), "{event:?}");
        bars += usize::from(matches!(event, ::svg::parser::Event::Tag("rect", ..)));
    }
    assert_eq!(bars, chart.rows.len());
    assert!(svg.contains("web&lt;1&gt;"), "names are escaped");
}

#[test]
fn marks_are_round_and_few() {
    for (end, step) in [(1_070.0, 100.0), (990.0, 100.0), (90.0, 10.0), (12_500.0, 2_000.0), (1.0, 0.1)] {
        assert!((tick(end, 12.0) - step).abs() < 1e-9, "{end}: {}", tick(end, 12.0));
    }
}
