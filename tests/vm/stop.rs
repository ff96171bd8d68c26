//! Clean ends, from every state.

use firstlight_tests::Lab;

#[test]
fn stop_gives_the_program_its_signal_and_its_time() {
    let Some(lab) = Lab::open() else { return };
    let script = "trap 'echo ending; exit 0' TERM; echo ready; while :; do sleep 1 & wait $!; done";
    let vm = lab.start("polite", &["--", "sh", "-c", script]);
    let mut logs = vm.follow_logs();
    assert_eq!(logs.line(), "ready");
    vm.stop();
    assert_eq!(vm.state(), "stopped");
    assert_eq!(vm.logs(), "ready\nending\n");
    assert_eq!(vm.inspect()["exit"]["code"], 0);
    assert!(vm.events().iter().any(|event| event == "POWER-OFF"));
}

#[test]
fn stop_kills_a_program_that_ignores_its_signal() {
    let Some(lab) = Lab::open() else { return };
    let vm =
        lab.start("stubborn", &["--", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]);
    assert_eq!(vm.follow_logs().line(), "ready");
    let _ = lab.host_ctl(&["stop", "--timeout", "1s", "stubborn"]).ok();
    assert_eq!(vm.state(), "stopped");
    assert_eq!(vm.inspect()["exit"]["signal"], 9);
}

#[test]
fn stop_works_on_an_initializing_vm() {
    let Some(lab) = Lab::open() else { return };
    let _ = lab.host_ctl(&["run", "-d", "--name", "early", "--wait", "none", "--", "sleep", "1000"]).ok();
    let vm = lab.vm("early");
    vm.stop();
    assert_eq!(vm.state(), "stopped");
}

#[test]
fn kill_sends_signals_and_ends_a_vm() {
    let Some(lab) = Lab::open() else { return };
    let script = "trap 'echo usr1' USR1; echo ready; while :; do sleep 1 & wait $!; done";
    let vm = lab.start("target", &["--", "sh", "-c", script]);
    let mut logs = vm.follow_logs();
    assert_eq!(logs.line(), "ready");
    let _ = lab.host_ctl(&["kill", "-s", "USR1", "target"]).ok();
    assert_eq!(logs.line(), "usr1");
    let _ = lab.host_ctl(&["kill", "target"]).ok();
    vm.wait("stopped");
}

#[test]
fn stopping_twice_and_removing_twice_are_no_errors() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("twice", &["--", "sleep", "1000"]);
    vm.stop();
    vm.stop();
    vm.remove();
    assert_eq!(lab.host_ctl(&["rm", "twice"]).code(), 3);
    let _ = lab.host_ctl(&["rm", "--ignore-not-found", "twice"]).ok();
}

#[test]
fn a_running_vm_is_not_removed_without_force() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("kept", &["--", "sleep", "1000"]);
    let run = lab.host_ctl(&["rm", "kept"]);
    assert_eq!(run.code(), 4, "{}", run.stderr);
    assert_eq!(vm.state(), "running");
}

#[test]
fn a_stopped_vm_starts_again_as_a_new_boot() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("again", &["--", "sleep", "1000"]);
    let first = vm.inspect()["boot_id"].clone();
    vm.stop();
    let _ = lab.host_ctl(&["start", "again"]).ok();
    vm.wait("running");
    assert_ne!(vm.inspect()["boot_id"], first);
    assert_eq!(
        vm.events().iter().filter(|event| *event == "INIT-START").count(),
        1,
        "an earlier boot counts"
    );
    assert_eq!(vm.exec(&["echo", "hi"]).ok().text(), "hi\n");
}

#[test]
fn a_paused_vm_stands_still_and_goes_on() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("still", &["--", "sleep", "1000"]);
    let _ = lab.host_ctl(&["pause", "still"]).ok();
    assert_eq!(vm.state(), "paused");
    let run = vm.exec(&["true"]);
    assert_eq!(run.code(), 125, "{}", run.stderr);
    assert!(run.stderr.contains("host-ctl resume still"), "{}", run.stderr);
    let _ = lab.host_ctl(&["resume", "still"]).ok();
    assert_eq!(vm.state(), "running");
    assert_eq!(vm.exec(&["echo", "hi"]).ok().text(), "hi\n");
}
