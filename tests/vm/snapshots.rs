//! Snapshots: what runs goes on in each copy, copies differ, and a save that fails leaves the VM running and nothing else.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use firstlight_host_ctl::agent::Connection;
use firstlight_host_ctl::vm::VmDir;
use firstlight_protocol::message::snapshot::SnapshotPrepareRequest;
use firstlight_tests::lab::finish;
use firstlight_tests::small_disk::SmallDisk;
use firstlight_tests::{Lab, Vm, disk, host_process, requirement};

/// Counts for ever, in its memory, on its disk and on its output.
const COUNTER: &str =
    "i=0; while :; do i=$((i+1)); echo $i; echo $i >/data/next; mv /data/next /data/count; sleep 0.2; done";

/// A VM that can be saved, with a disk that is written to, and a program that counts.
#[track_caller]
fn counter<'lab>(lab: &'lab Lab, name: &str) -> Vm<'lab> {
    counter_over(lab, name, "vsock")
}

#[track_caller]
fn counter_over<'lab>(lab: &'lab Lab, name: &str, road: &str) -> Vm<'lab> {
    let image = lab.path("data.ext4");
    disk::ext4(&image, 32);
    let volume = format!("{}:/data", image.display());
    let flags = ["--snapshot", "--transport", road, "--volume", &volume, "--", "sh", "-c", COUNTER];
    lab.start(name, &flags)
}

#[track_caller]
fn snapshot(lab: &Lab, vm: &str, name: &str) {
    assert_eq!(lab.host_ctl(&["snapshot", vm, name]).ok().text(), format!("{name}\n"));
}

#[track_caller]
fn restore<'lab>(lab: &'lab Lab, snapshot: &str, name: &str) -> Vm<'lab> {
    let _ = lab.host_ctl(&["restore", snapshot, "--name", name]).ok();
    lab.vm(name)
}

#[track_caller]
fn count(line: &str) -> u64 {
    line.trim().parse().unwrap_or_else(|_| panic!("no number: {line:?}"))
}

/// Everything in the snapshots' directory, hidden or not.
fn files(lab: &Lab) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(lab.state_dir().join("snapshots")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// The error's code and message, of a command that was to fail.
#[track_caller]
fn error(lab: &Lab, args: &[&str]) -> (String, String) {
    let run = lab.host_ctl(&[&["--json"], args].concat());
    assert_ne!(run.code(), 0, "{args:?}");
    let line = run.stderr.lines().find(|line| line.starts_with('{')).unwrap_or_default();
    let document: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{}", run.stderr));
    let field = |name: &str| document["error"][name].as_str().unwrap().to_owned();
    (field("code"), field("message"))
}

#[test]
fn a_copy_goes_on_where_its_snapshot_was_taken_and_so_does_the_vm() {
    let Some(lab) = Lab::open() else { return };
    let vm = counter(&lab, "original");
    let mut output = vm.follow_logs();
    output.until("5");
    snapshot(&lab, "original", "five");
    let after = count(&vm.sh("cat /data/count"));
    // The VM itself goes on: later numbers come, and none is lost.
    output.until(&(after + 3).to_string());
    let lines: Vec<u64> = vm.logs().lines().map(count).collect();
    assert_eq!(lines, (1..=lines.len() as u64).collect::<Vec<_>>());
    vm.remove();
    let copy = restore(&lab, "five", "copy");
    assert_eq!(copy.state(), "running");
    let first = count(&copy.follow_logs().line());
    // Its memory was kept, and its log begins where it does.
    assert!((2..=after + 1).contains(&first), "it began at {first}, saved before {after}");
    let on_disk = count(&copy.sh("cat /data/count"));
    assert!(on_disk >= first, "{on_disk} on its disk after {first}");
    copy.stop();
    assert_eq!(copy.state(), "stopped");
    // Started anew it boots from its own disk.
    let _ = lab.host_ctl(&["start", "copy"]).ok();
    copy.wait("running");
    assert_eq!(copy.events()[0], "INIT-START");
}

#[test]
fn two_copies_of_one_snapshot_differ_in_all_that_tells_guests_apart() {
    let Some(lab) = Lab::open() else { return };
    let vm = counter(&lab, "original");
    snapshot(&lab, "original", "both");
    let copies = [restore(&lab, "both", "first"), restore(&lab, "both", "second")];
    let questions = [
        "cat /etc/machine-id",
        "hostname",
        "cat /sys/class/net/eth0/address",
        "ip -4 -o addr show eth0",
        "head -c 32 /dev/urandom | od -An -tx1",
    ];
    for question in questions {
        let [first, second] = copies.each_ref().map(|copy| copy.sh(question));
        assert_ne!(first, second, "{question}");
        assert!(!first.trim().is_empty(), "{question}");
    }
    assert_eq!(copies[0].sh("hostname"), "first\n");
    let boots = [&vm, &copies[0], &copies[1]].map(|vm| vm.inspect()["boot_id"].as_str().unwrap().to_owned());
    assert!(boots[0] != boots[1] && boots[1] != boots[2], "{boots:?}");
    for copy in &copies {
        assert_eq!(copy.events(), ["RESTORED", "AGENT-READY", "PROGRAM-START"]);
        // The token of the VM that was saved opens it no more.
        let (_, old) = VmDir::open(&vm.dir()).unwrap().agent().unwrap().unwrap();
        let (address, own) = VmDir::open(&copy.dir()).unwrap().agent().unwrap().unwrap();
        let opens = |token| {
            let open = async {
                let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
                Connection::open(&address, token, deadline).await.map(drop)
            };
            block_on(open)
        };
        assert!(opens(&old).is_err() && opens(&own).is_ok());
    }
    // What each writes is its own.
    let _ = copies[0].sh("echo first >/data/who");
    assert!(copies[1].exec(&["cat", "/data/who"]).code() != 0);
    // A snapshot that is removed takes nothing from its copies.
    let _ = lab.host_ctl(&["snapshots", "rm", "both"]).ok();
    assert_eq!(copies[0].sh("cat /data/who"), "first\n");
    assert_eq!(files(&lab), Vec::<PathBuf>::new());
    // A copy can be saved as well.
    snapshot(&lab, "first", "again");
    assert_eq!(restore(&lab, "again", "third").sh("cat /data/who"), "first\n");
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn the_first_random_numbers_that_copies_draw_differ() {
    /// Draws whenever it could write, which it cannot between the save and the moment in which a copy has got entropy.
    const DRAW: &str =
        "while :; do echo >/data/tick; head -c 32 /dev/urandom | od -An -v -tx1 -w32; sleep 0.02; done";
    let Some(lab) = Lab::open() else { return };
    let image = lab.path("data.ext4");
    disk::ext4(&image, 32);
    let volume = format!("{}:/data", image.display());
    let vm = lab.start("original", &["--snapshot", "--volume", &volume, "--", "sh", "-c", DRAW]);
    let _ = vm.follow_logs().line();
    snapshot(&lab, "original", "drawing");
    let first = ["one", "two"].map(|name| restore(&lab, "drawing", name).follow_logs().line());
    assert_ne!(first[0], first[1]);
    assert!(first.iter().all(|line| line.split_whitespace().count() == 32), "{first:?}");
}

/// `host-ctl ARGS` an hour from now, with a monitor of that time if it starts one; `None`, with the reason said, where the clock
/// cannot be faked.
#[track_caller]
fn an_hour_later(lab: &Lab, args: &[&str]) -> Option<()> {
    let Some(faketime) = requirement::library("libfaketime.so.1") else {
        let _ = requirement::skip_for(Some("libfaketime is not installed; run `make setup`".into()));
        return None;
    };
    let mut command = lab.command(args);
    command.env("LD_PRELOAD", &faketime).env("FAKETIME", "+3600").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let _ = finish(command.spawn().unwrap()).ok();
    Some(())
}

/// Fails the test unless it is an hour later in the guest, to a tenth of a second.
#[track_caller]
fn assert_an_hour_later(vm: &Vm<'_>) {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() + 3_600.0;
    let before = now();
    let touched = vm.sh("touch /tmp/now && stat -c %y /tmp/now && date +%s");
    let after = now();
    // `2026-11-21 07:23:25.120000000`: the kernel stamps files by its tick, a few milliseconds late at most.
    let mut lines = touched.lines();
    let fraction = lines.next().and_then(|line| line.split('.').nth(1)).unwrap_or_default();
    let nanos: f64 = fraction.split(' ').next().unwrap().parse().unwrap();
    let seconds: f64 = lines.next().unwrap().parse().unwrap();
    // The second may have turned between the two.
    let guest = if seconds + nanos / 1e9 > after + 0.5 { seconds - 1.0 } else { seconds } + nanos / 1e9;
    assert!((before - 0.1..=after + 0.1).contains(&guest), "{guest} is not from {before} to {after}");
}

#[test]
fn a_copy_that_is_restored_an_hour_later_has_the_right_time() {
    let Some(lab) = Lab::open() else { return };
    let _vm = counter(&lab, "original");
    snapshot(&lab, "original", "hour");
    if an_hour_later(&lab, &["restore", "hour", "--name", "late"]).is_some() {
        assert_an_hour_later(&lab.vm("late"));
    }
}

#[test]
fn a_guest_that_stood_still_for_an_hour_has_the_right_time_when_it_goes_on() {
    let Some(lab) = Lab::open() else { return };
    // A vsock backend may not survive that a monitor ends while its guest is paused.
    let vm = lab.start("still", &["--transport", "serial", "--", "sleep", "1000"]);
    let _ = lab.host_ctl(&["pause", "still"]).ok();
    // The next monitor lives an hour from now.
    host_process::kill(host_process::monitor_of(&vm.dir()).expect("a monitor"));
    if an_hour_later(&lab, &["resume", "still"]).is_some() {
        assert_an_hour_later(&vm);
    }
}

#[test]
fn a_snapshot_that_is_damaged_or_of_another_version_is_refused_and_nothing_is_left() {
    let Some(lab) = Lab::open() else { return };
    counter(&lab, "original").wait("running");
    snapshot(&lab, "original", "victim");
    let dir = lab.state_dir().join("snapshots/victim");
    let manifest = dir.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let older = text.replace("QEMU emulator version", "QEMU emulator of old");
    // Of another file than is here, so that its version counts.
    fs::write(&manifest, older.replace("\"vmm_file\": \"", "\"vmm_file\": \"/old")).unwrap();
    let (code, message) = error(&lab, &["restore", "victim", "--name", "copy"]);
    assert_eq!(code, "mismatch", "{message}");
    assert!(message.contains("the VMM QEMU emulator of old"), "{message}");
    fs::write(&manifest, &text).unwrap();
    for file in ["memory", "guest.json", "disks/vol0.0"] {
        let path = dir.join(file);
        disk::flip_middle_byte(&path);
        let (code, message) = error(&lab, &["restore", "victim", "--name", "copy"]);
        assert_eq!(code, "corrupt", "{message}");
        assert!(message.contains("\"victim\" is damaged") && message.contains(file), "{message}");
        disk::flip_middle_byte(&path);
    }
    let _ = lab.host_ctl(&["restore", "victim", "--name", "whole"]).ok();
    lab.vm("whole").remove();
    File::options().write(true).open(dir.join("memory")).unwrap().set_len(4096).unwrap();
    let (code, message) = error(&lab, &["restore", "victim", "--name", "copy"]);
    assert_eq!(code, "corrupt", "{message}");
    assert_eq!(lab.host_ctl(&["ps", "-a", "-q"]).ok().text(), "original\n");
    assert_eq!(lab.vm("original").state(), "running");
}

#[test]
fn a_disk_that_is_full_during_a_save_leaves_the_vm_running_and_no_snapshot() {
    let Some(lab) = Lab::open() else { return };
    // Room for the VM's own files and not for its memory.
    let Some(_disk) = SmallDisk::mount(&lab.state_dir(), 48) else {
        let _ = requirement::skip_for(Some("mounting a tmpfs needs root".into()));
        return;
    };
    let vm = counter(&lab, "crowded");
    let (code, message) = error(&lab, &["snapshot", "crowded", "large"]);
    assert_eq!(code, "disk-full", "{message}");
    assert_eq!(files(&lab), Vec::<PathBuf>::new());
    assert_eq!(vm.state(), "running");
    // Its disk is not frozen, and its output goes on.
    let _ = vm.sh("echo thawed >/data/state && sync");
    let reached = count(&vm.sh("cat /data/count"));
    vm.follow_logs().until(&(reached + 2).to_string());
    vm.remove();
}

/// Waits until the VM's monitor has recorded `entry`.
#[track_caller]
fn wait_for_record(vm: &Vm<'_>, entry: &str) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let journal = vm.dir().join("journal");
    while !fs::read_to_string(&journal).is_ok_and(|records| records.contains(entry)) {
        assert!(Instant::now() < deadline, "no {entry}");
        std::thread::yield_now();
    }
}

/// Waits until the guest stands still for a save and the VMM is to write.
#[track_caller]
fn wait_for_draft(lab: &Lab) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !files(lab).iter().any(|draft| draft.join("devices").exists()) {
        assert!(Instant::now() < deadline, "nothing is written");
        std::thread::yield_now();
    }
}

#[test]
fn whoever_is_killed_during_a_save_there_is_no_snapshot_and_the_vm_goes_on() {
    let Some(lab) = Lab::open() else { return };
    // A monitor that is killed while it connects to the guest's agent can end the vsock's backend with it (decision 0024), so
    // that moment is tried over the road that has no backend.
    let cases = [
        ("the monitor", "serial", "early"),
        ("the monitor", "vsock", "late"),
        ("host-ctl", "vsock", "early"),
        ("host-ctl", "vsock", "late"),
    ];
    for (victim, road, moment) in cases {
        let vm = counter_over(&lab, "survivor", road);
        // Then it has written down the first.
        vm.follow_logs().until("2");
        let mut saving = lab.command(&["snapshot", "survivor", "torn"]).spawn().unwrap();
        match moment {
            "early" => wait_for_record(&vm, "save-started"),
            _ => wait_for_draft(&lab),
        }
        match victim {
            "the monitor" => host_process::kill(host_process::monitor_of(&vm.dir()).expect("a monitor")),
            _ => host_process::kill(saving.id()),
        }
        assert!(!saving.wait().unwrap().success(), "{victim} was killed too late");
        assert_eq!(lab.host_ctl(&["snapshots", "-q"]).ok().text(), "", "{victim}");
        vm.wait("running");
        let reached = count(&vm.sh("cat /data/count"));
        vm.follow_logs().until(&(reached + 2).to_string());
        // What was left behind is no hindrance, and is swept up.
        snapshot(&lab, "survivor", "torn");
        assert_eq!(files(&lab).len(), 1, "{victim}: {:?}", files(&lab));
        let _ = lab.host_ctl(&["snapshots", "rm", "torn"]).ok();
        vm.remove();
    }
}

#[test]
fn a_restore_whose_monitor_and_command_are_killed_is_done_once_more_by_start() {
    let Some(lab) = Lab::open() else { return };
    counter(&lab, "original").follow_logs().until("3");
    snapshot(&lab, "original", "three");
    let copy = lab.vm("torn");
    let mut restoring = lab.command(&["restore", "three", "--name", "torn"]).spawn().unwrap();
    wait_for_record(&copy, "vmm-started");
    // Without the command, which would clear the VM away.
    host_process::kill(restoring.id());
    host_process::kill(host_process::monitor_of(&copy.dir()).expect("a monitor"));
    assert!(!restoring.wait().unwrap().success(), "it was killed too late");
    // However far it had come: the memory is not lost, and the guest is somebody of its own.
    let _ = lab.host_ctl(&["start", "torn"]).ok();
    copy.wait("running");
    assert_eq!(copy.events(), ["RESTORED", "AGENT-READY", "PROGRAM-START"]);
    let reached = count(&copy.sh("cat /data/count"));
    assert!(reached >= 3, "{reached}");
    copy.follow_logs().until(&(reached + 2).to_string());
}

#[test]
fn a_guest_that_nobody_thaws_thaws_itself() {
    let Some(lab) = Lab::open() else { return };
    let vm = counter(&lab, "forgotten");
    let (address, token) = VmDir::open(&vm.dir()).unwrap().agent().unwrap().unwrap();
    let prepared = block_on(async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        let mut connection = Connection::open(&address, &token, deadline).await?;
        let request = SnapshotPrepareRequest { drain_ms: 5_000, watchdog_ms: 2_000 };
        connection.request(&request, deadline).await
    });
    let steps: Vec<&str> = prepared.unwrap().steps.iter().map(|done| done.step.name()).collect();
    assert_eq!(steps, ["drain", "disconnect", "sync", "freeze"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while vm.exec(&["true"]).code() != 0 {
        assert!(Instant::now() < deadline, "the guest never let anybody in again");
    }
    // A frozen file system would hold this for ever.
    let _ = vm.sh("echo thawed >/data/state && sync");
}

#[test]
fn a_vm_that_cannot_be_saved_says_so_and_what_to_do() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("micro", &["--", "sleep", "1000"]);
    let run = lab.host_ctl(&["snapshot", "micro", "never"]);
    assert_eq!(run.code(), 4);
    assert!(run.stderr.contains("microvm") && run.stderr.contains("--snapshot"), "{}", run.stderr);
    vm.stop();
    let run = lab.host_ctl(&["snapshot", "micro", "never"]);
    assert_eq!(run.code(), 4);
    assert!(run.stderr.contains("needs a running VM"), "{}", run.stderr);
    assert_eq!(lab.host_ctl(&["restore", "never"]).code(), 3);
    assert_eq!(files(&lab), Vec::<PathBuf>::new());
}
