//! The road to the guest over virtio-serial ports, which have no connections of their own. What is said of the other road holds
//! for this one: `FIRSTLIGHT_TEST_TRANSPORT=serial` runs any other module over it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use firstlight_tests::lab::finish;
use firstlight_tests::{Lab, Vm, host_process};

const SERIAL: [&str; 2] = ["--transport", "serial"];

fn start<'lab>(lab: &'lab Lab, name: &str, args: &[&str]) -> Vm<'lab> {
    lab.start(name, &[&SERIAL[..], args].concat())
}

fn kill_monitor(vm: &Vm<'_>) {
    host_process::kill(host_process::monitor_of(&vm.dir()).expect("a monitor"));
}

#[test]
fn files_cross_whole_both_ways_beside_twenty_commands() {
    let Some(lab) = Lab::open() else { return };
    let vm = start(&lab, "bytes", &["--", "sleep", "1000"]);
    assert!(!vm.dir().join("boot/vsock").exists(), "it has a vsock");
    let bytes: Vec<u8> =
        (0..4_u32 << 20).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(lab.path("there"), &bytes).unwrap();
    let there = lab.path("there").display().to_string();
    let back = lab.path("back").display().to_string();
    let copy = lab.command(&["cp", &there, "bytes:/tmp/file"]).spawn().unwrap();
    let commands: Vec<_> = (0..20)
        .map(|number| lab.command(&["exec", "bytes", "--", "echo", &number.to_string()]).spawn().unwrap())
        .collect();
    for (command, number) in commands.into_iter().zip(0..) {
        assert_eq!(finish(command).ok().text(), format!("{number}\n"));
    }
    let _ = finish(copy).ok();
    let _ = lab.host_ctl(&["cp", "bytes:/tmp/file", &back]).ok();
    assert!(fs::read(lab.path("back")).unwrap() == bytes, "other bytes came back");
}

#[test]
fn a_monitor_that_is_killed_is_followed_by_another_that_the_guest_hears() {
    let Some(lab) = Lab::open() else { return };
    let script = "i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done; sleep 1000";
    let vm = start(&lab, "adopted", &["--", "sh", "-c", script]);
    for _ in 0..3 {
        kill_monitor(&vm);
        assert_eq!(vm.sh("echo here"), "here\n");
    }
    let mut logs = vm.follow_logs();
    for line in 0..2000 {
        assert_eq!(logs.line(), line.to_string());
    }
    // A guest that stands still cannot see that the one has gone before the other comes.
    let _ = lab.host_ctl(&["pause", "adopted"]).ok();
    kill_monitor(&vm);
    let _ = lab.host_ctl(&["resume", "adopted"]).ok();
    assert_eq!(vm.sh("echo here"), "here\n");
    vm.stop();
    assert_eq!(vm.state(), "stopped");
}

#[test]
fn an_agent_that_is_killed_is_followed_by_another_that_the_host_reaches() {
    let Some(lab) = Lab::open() else { return };
    let vm = start(&lab, "revived", &["--", "sleep", "1000"]);
    for _ in 0..3 {
        let mut events = vm.follow_events();
        events.until("AGENT-READY");
        // The agent is the parent of what it executes; killing it breaks this very exec.
        assert_ne!(vm.exec(&["sh", "-c", "kill -9 $PPID"]).code(), 0);
        events.until("AGENT-READY");
        assert_eq!(vm.sh("echo here"), "here\n");
    }
}

#[test]
fn a_guest_without_an_agent_is_stopped_through_init_s_port() {
    let Some(lab) = Lab::open() else { return };
    let trap = "trap 'echo asked; exit 3' TERM; while :; do sleep 0.1; done";
    let vm = start(&lab, "bare", &["--skip-guest-agent", "--", "sh", "-c", trap]);
    kill_monitor(&vm);
    vm.stop();
    assert_eq!(vm.inspect()["exit"]["code"], 3, "{}", vm.inspect());
}

#[test]
fn clients_that_speak_to_a_paused_guest_and_leave_cost_nobody_else_the_guest() {
    let Some(lab) = Lab::open() else { return };
    let vm = start(&lab, "still", &["--", "sleep", "1000"]);
    let echo = || {
        let mut command = lab.command(&["exec", "-i", "still", "--", "sh", "-c", "echo ready; exec cat"]);
        let mut client = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 6];
        client.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        client
    };
    let (mut stays, mut leaves) = (echo(), echo());
    let _ = lab.host_ctl(&["pause", "still"]).ok();
    for client in [&mut stays, &mut leaves] {
        client.stdin.as_mut().unwrap().write_all(b"said meanwhile\n").unwrap();
    }
    leaves.kill().unwrap();
    leaves.wait().unwrap();
    let _ = lab.host_ctl(&["resume", "still"]).ok();
    assert_eq!(vm.sh("echo here"), "here\n");
    drop(stays.stdin.take());
    assert_eq!(finish(stays).ok().text(), "said meanwhile\n");
}

#[test]
fn a_guest_is_saved_with_its_ports_and_goes_on_in_copies() {
    let Some(lab) = Lab::open() else { return };
    let vm = start(&lab, "golden", &["--snapshot", "--", "sleep", "1000"]);
    let _ = vm.sh("echo kept >/tmp/file");
    let _ = lab.host_ctl(&["snapshot", "golden", "saved"]).ok();
    let _ = lab.host_ctl(&["restore", "saved", "--name", "one"]).ok();
    let _ = lab.host_ctl(&["restore", "saved", "--name", "two"]).ok();
    let _ = lab.vm("one").sh("echo changed >/tmp/file");
    let contents = |vm: &Vm<'_>| vm.sh("cat /tmp/file");
    assert_eq!(contents(&lab.vm("one")), "changed\n");
    assert_eq!(contents(&lab.vm("two")), "kept\n");
    assert_eq!(contents(&vm), "kept\n");
    kill_monitor(&lab.vm("two"));
    assert_eq!(contents(&lab.vm("two")), "kept\n");
}
