//! `bench boot`: figures of real boots, and nothing left of them.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use firstlight_tests::lab::finish;
use firstlight_tests::{Lab, disk, leftovers};
use serde_json::Value;

const BENCH: [&str; 4] = ["bench", "boot", "--timeout", "120s"];

#[track_caller]
fn assert_nothing_left(lab: &Lab) {
    assert_eq!(lab.host_ctl(&["ps", "-a", "-q"]).ok().text(), "");
    leftovers::assert_none(&lab.path(""));
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

#[test]
fn every_run_is_a_vm_of_its_own_and_its_phases_add_up() {
    let Some(lab) = Lab::open() else { return };
    let data = lab.path("data.ext4");
    disk::ext4(&data, 8);
    let volume = format!("{}:/data", data.display());
    let args = [&BENCH[..], &["--json", "--runs", "1", "--volume", &volume]].concat();
    let report = lab.host_ctl(&args).ok().json();
    let samples = numbers(&report["samples_ms"]);
    assert_eq!(samples.len(), 1, "{report}");
    let steps = report["steps"].as_array().unwrap();
    let of_kind = |kind: &str| steps.iter().filter(|step| step["kind"] == kind).collect::<Vec<_>>();
    let sum: f64 = of_kind("phase").iter().map(|step| step["took_ms"]["median"].as_f64().unwrap()).sum();
    assert!((sum - samples[0]).abs() < 1.0, "{sum} of {}: {report}", samples[0]);
    for stage in ["volume:/data", "agent", "program"] {
        let found = of_kind("stage").into_iter().find(|step| step["step"] == stage);
        assert_eq!(found.unwrap_or_else(|| panic!("no {stage} in {report}"))["runs"], 1);
    }
    assert_nothing_left(&lab);
    // As an orderly end leaves it: a journal that has to be replayed would cost the next run time.
    assert!(disk::is_clean(&data));
}

#[test]
fn a_first_run_that_fails_is_the_only_one_and_says_why() {
    let Some(lab) = Lab::open() else { return };
    let run = lab.host_ctl(&[&BENCH[..], &["--runs", "3", "--", "/no/such/program"]].concat());
    assert_eq!((run.code(), run.text().as_str()), (127, ""), "{}", run.stderr);
    assert_eq!(run.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{}", run.stderr);
    assert!(run.stderr.contains("run 1 of 3: ") && run.stderr.contains("/no/such/program"), "{}", run.stderr);
    assert_nothing_left(&lab);
}

#[test]
fn runs_that_fail_later_are_told_by_number_beside_the_figures_of_the_others() {
    let Some(lab) = Lab::open() else { return };
    let data = lab.path("data.ext4");
    disk::ext4(&data, 8);
    let volume = format!("{}:/data", data.display());
    let args = [&BENCH[..], &["--json", "--runs", "40", "--volume", &volume]].concat();
    let bench = lab.command(&args).spawn().unwrap();
    // A VM that runs has its disks; the next one finds none.
    while lab.host_ctl(&["ps", "-q", "--filter", "state=running"]).ok().text().is_empty() {}
    std::fs::remove_file(&data).unwrap();
    let ended = finish(bench);
    assert_eq!(ended.code(), 2, "{}", ended.stderr);
    let report = ended.json();
    let (got, failed) = (numbers(&report["samples_ms"]).len(), report["failed"].as_array().unwrap());
    assert!(got > 0 && got + failed.len() == 40, "{report}");
    for (failure, number) in failed.iter().zip(got + 1..) {
        assert_eq!(failure["run"], number);
        let reason = failure["reason"].as_str().unwrap();
        assert!(
            reason.starts_with(&format!("run {number} of 40: ")) && reason.contains("data.ext4"),
            "{reason}"
        );
    }
    assert_nothing_left(&lab);
}

/// Waits until a benchmark has said that its first run is over, and interrupts it.
fn interrupt(bench: &mut Child) {
    let mut said = String::new();
    BufReader::new(bench.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with("run 1 of 100: "), "{said}");
    let killed = Command::new("kill").args(["-s", "INT", &bench.id().to_string()]).status().unwrap();
    assert!(killed.success());
}

#[test]
fn an_interrupt_removes_the_vm_of_the_moment_and_shows_what_there_is() {
    let Some(lab) = Lab::open() else { return };
    let args = [&BENCH[..], &["--runs", "100"]].concat();
    let mut bench = lab.command(&args).stderr(Stdio::piped()).spawn().unwrap();
    interrupt(&mut bench);
    let output = bench.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.starts_with("create to Running: ") && table.contains("modules:vsock"), "{table}");
    assert_nothing_left(&lab);
}
