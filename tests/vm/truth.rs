//! What host-ctl says of a VM: pushed as it happens, refused by name, told to systemd and to Prometheus.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use firstlight_tests::{Lab, host_process, lab::finish};

#[test]
fn what_needs_a_running_vm_is_refused_before_and_names_the_command_that_waits() {
    let Some(lab) = Lab::open() else { return };
    // A required volume of the guest's that never ends its stage would be artificial: the VMM is held still instead,
    // at an instant when the boot cannot be over.
    let _ = lab.host_ctl(&["run", "-d", "--name", "young", "--wait", "none", "--", "sleep", "1000"]).ok();
    let vm = lab.vm("young");
    let pid = vm.inspect()["pid"].as_u64().expect("a VMM").to_string();
    signal("-STOP", &pid);
    let state = vm.state();
    let run = vm.exec(&["true"]);
    signal("-CONT", &pid);
    if state == "initializing" {
        assert_eq!(run.code(), 125, "{}", run.stderr);
        assert!(run.stderr.contains("initializing"), "{}", run.stderr);
        assert!(run.stderr.contains("host-ctl wait young --for running"), "{}", run.stderr);
    }
    vm.wait("running");
    let _ = vm.exec(&["true"]).ok();
}

#[test]
fn an_initializing_vm_counts_as_active_everywhere() {
    let Some(lab) = Lab::open() else { return };
    let _ = lab.host_ctl(&["run", "-d", "--name", "young", "--wait", "none", "--", "sleep", "1000"]).ok();
    let vm = lab.vm("young");
    assert_eq!(lab.host_ctl(&["ps", "-q"]).ok().text(), "young\n");
    assert_eq!(lab.host_ctl(&["rm", "young"]).code(), 4);
    let _ = lab.host_ctl(&["logs", "young"]).ok();
    let _ = lab.host_ctl(&["events", "young"]).ok();
    let _ = lab.host_ctl(&["kill", "young"]).ok();
    vm.wait("stopped");
}

#[test]
fn wait_fails_at_once_for_what_can_no_longer_come() {
    let Some(lab) = Lab::open() else { return };
    let run = lab.host_ctl(&["run", "--name", "over", "--", "true"]);
    assert_eq!(run.code(), 0, "{}", run.stderr);
    // Without a timeout: only failing at once ends this command.
    let waited = lab.host_ctl(&["wait", "over", "--for", "running"]);
    assert_eq!(waited.code(), 4, "{}", waited.stderr);
    assert!(waited.stderr.contains("over is stopped"), "{}", waited.stderr);
}

#[test]
fn events_and_ps_are_pushed_while_a_vm_lives() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("watched", &["--", "sleep", "1000"]);
    let mut events = vm.follow_events();
    events.until("PROGRAM-START");
    let mut watch = lab.follow(&["ps", "--watch", "--json"]);
    watch.until("\"running\"");
    vm.stop();
    events.until("\"EXIT\"");
    events.until("POWER-OFF");
    watch.until("\"stopped\"");
}

#[test]
fn metrics_count_vms_boots_and_failures_in_prometheus_text() {
    let Some(lab) = Lab::open() else { return };
    let _vm = lab.start("measured", &["--", "sleep", "1000"]);
    assert_eq!(lab.host_ctl(&["run", "--name", "broken", "--", "/no/such/program"]).code(), 127);
    let text = lab.host_ctl(&["metrics"]).ok().text();
    for wanted in [
        "firstlight_vms{state=\"running\"} 1",
        "firstlight_vms{state=\"failed\"} 1",
        "firstlight_time_to_running_seconds_count 1",
        "firstlight_boot_failures_total{stage=\"program\"} 1",
    ] {
        assert!(text.lines().any(|line| line == wanted), "no {wanted:?} in:\n{text}");
    }
}

#[test]
fn systemd_is_told_of_ready_of_each_stage_and_of_the_end() {
    let Some(lab) = Lab::open() else { return };
    let socket = lab.path("notify");
    let notify = UnixDatagram::bind(&socket).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    let mut command = lab.command(&["run", "--name", "unit", "--", "sleep", "1000"]);
    let child = command.env("NOTIFY_SOCKET", &socket).spawn().unwrap();
    let mut heard = String::new();
    let mut until = |word: &str| {
        while !heard.contains(word) {
            let mut message = [0; 4096];
            let read =
                notify.recv(&mut message).unwrap_or_else(|error| panic!("{word}: {error}; heard: {heard}"));
            heard.push_str(std::str::from_utf8(&message[..read]).unwrap());
            heard.push('\n');
        }
    };
    until("STATUS=");
    until("READY=1");
    assert_eq!(lab.vm("unit").state(), "running");
    signal("-TERM", &child.id().to_string());
    until("STOPPING=1");
    let _ = finish(child);
    assert_eq!(lab.vm("unit").state(), "stopped");
    assert!(lab.vm("unit").events().iter().any(|event| event == "POWER-OFF"), "not a clean stop");
}

#[test]
fn a_foreground_run_forwards_an_interrupt_to_the_program() {
    let Some(lab) = Lab::open() else { return };
    let script = "trap 'echo interrupted; exit 7' INT; echo ready; while :; do sleep 1 & wait $!; done";
    let child = lab.command(&["run", "--name", "front", "--", "sh", "-c", script]).spawn().unwrap();
    lab.wait_for_vm("front").follow_logs().until("ready");
    signal("-INT", &child.id().to_string());
    let run = finish(child);
    assert_eq!((run.code(), run.text().as_str()), (7, "ready\ninterrupted\n"), "{}", run.stderr);
}

#[test]
fn a_removed_vm_leaves_no_process() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("gone", &["--", "sleep", "1000"]);
    let pid = u32::try_from(vm.inspect()["pid"].as_u64().unwrap()).unwrap();
    assert!(host_process::is_alive(pid));
    vm.remove();
    assert!(!host_process::is_alive(pid));
    assert_eq!(firstlight_tests::leftovers::processes(&lab.path("")), Vec::<String>::new());
}

#[track_caller]
fn signal(which: &str, pid: &str) {
    assert!(Command::new("kill").args([which, pid]).status().unwrap().success());
}
