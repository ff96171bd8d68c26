//! SIGKILL of the monitor, of host-ctl or of both at any instant loses no VM and no event.

use std::collections::VecDeque;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use firstlight_host_ctl::vm::lock::Lock;
use firstlight_tests::lab::finish;
use firstlight_tests::small_disk::SmallDisk;
use firstlight_tests::{Lab, Vm, host_process, let_pass, requirement};
use rustix::fs::inotify;
use rustix::io::Errno;

/// The instants at which a monitor is killed, spread over a boot.
const INSTANTS: u32 = 20;

/// The events of a boot without their times, so that two boots can be compared. Stages end in any order.
#[track_caller]
fn outline(vm: &Vm<'_>) -> Vec<String> {
    let inspected = vm.inspect();
    let events = inspected["events"].as_array().unwrap();
    let name = |event: &serde_json::Value| {
        let field = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        format!("{} {}", field("event"), field("stage"))
    };
    let sequence: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (1..=sequence.len() as u64).collect();
    assert_eq!(sequence, expected, "events are missing, repeated or out of order");
    let mut names: Vec<String> = events.iter().map(name).collect();
    names.sort();
    names
}

/// Running comes with PROGRAM-START; the stage that says it is done a moment later.
#[track_caller]
fn wait_for_the_last_event_of_the_boot(vm: &Vm<'_>) {
    vm.follow_events().until("\"stage\":\"program\"");
}

#[test]
fn a_monitor_killed_at_any_instant_of_a_boot_loses_no_vm_and_no_event() {
    let Some(lab) = Lab::open() else { return };
    let run = |name: &str| {
        let argv = ["--", "sh", "-c", "echo started; sleep 1000"];
        let _ = lab.host_ctl(&[&["run", "-d", "--name", name, "--wait", "none"][..], &argv].concat()).ok();
        lab.vm(name)
    };
    let start = Instant::now();
    let undisturbed = run("undisturbed");
    wait_for_the_last_event_of_the_boot(&undisturbed);
    let boot = start.elapsed();
    let expected = outline(&undisturbed);
    undisturbed.remove();
    for instant in 0..INSTANTS {
        let vm = run(&format!("disturbed-{instant}"));
        let_pass(boot * instant / INSTANTS);
        let monitor = host_process::monitor_of(&vm.dir()).expect("a monitor");
        host_process::kill(monitor);
        wait_for_the_last_event_of_the_boot(&vm);
        assert_eq!(outline(&vm), expected, "killed {instant}/{INSTANTS} into the boot");
        assert_ne!(host_process::monitor_of(&vm.dir()), None, "nobody adopted the VM");
        assert_eq!(vm.follow_logs().line(), "started");
        vm.stop();
        assert_eq!(vm.state(), "stopped");
        vm.remove();
    }
}

#[test]
fn host_ctl_and_its_monitor_killed_together_leave_a_vm_that_goes_on() {
    let Some(lab) = Lab::open() else { return };
    let mut foreground = lab.command(&["run", "--name", "left", "--", "sleep", "1000"]).spawn().unwrap();
    let vm = lab.vm("left");
    while host_process::monitor_of(&vm.dir()).is_none() {
        std::thread::yield_now();
    }
    foreground.kill().unwrap();
    foreground.wait().unwrap();
    if let Some(monitor) = host_process::monitor_of(&vm.dir()) {
        host_process::kill(monitor);
    }
    // Killed that early there is either no VM yet, or one that can be adopted; never something in between.
    if lab.host_ctl(&["inspect", "left"]).code() == 0 {
        let waited = lab.host_ctl(&["wait", "left", "--for", "running", "--timeout", "90s"]);
        let state = vm.state();
        assert!(waited.code() == 0 || state == "failed" || state == "created", "{state}: {}", waited.stderr);
    }
}

#[test]
fn a_monitor_killed_while_the_program_prints_loses_no_byte() {
    let Some(lab) = Lab::open() else { return };
    let script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; sleep 1000";
    // Behind a vsock backend a monitor that is killed while it connects can cost the VM its vsock (decision 0024), and then no
    // later one could ask for the output.
    let vm = lab.start("printer", &["--transport", "serial", "--", "sh", "-c", script]);
    for _ in 0..3 {
        let monitor = host_process::monitor_of(&vm.dir()).expect("a monitor");
        host_process::kill(monitor);
        // Any command adopts it again.
        assert_eq!(vm.sh("echo here"), "here\n");
    }
    let mut logs = vm.follow_logs();
    for line in 0..20_000 {
        assert_eq!(logs.line(), line.to_string());
    }
}

#[test]
fn events_are_recovered_from_rotated_serial_logs_alone() {
    let Some(lab) = Lab::open() else { return };
    // No agent, so that nobody else remembers; the smallest logs, so that the boot's lines are spread over many.
    let flags = ["--skip-guest-agent", "--log-max-size", "1K", "--log-max-files", "50"];
    let script = "i=0; while [ $i -lt 100 ]; do echo noise noise noise $i; i=$((i+1)); done; sleep 1000";
    let vm = lab.start("rotated", &[&flags[..], &["--", "sh", "-c", script]].concat());
    vm.follow_logs().until("noise 99");
    wait_for_the_last_event_of_the_boot(&vm);
    let expected = outline(&vm);
    assert!(vm.dir().join("serial.log.2").exists(), "the log was never rotated");
    host_process::kill(host_process::monitor_of(&vm.dir()).expect("a monitor"));
    let journal = vm.dir().join("journal");
    let text = std::fs::read_to_string(&journal).unwrap();
    let kept: Vec<&str> = text.lines().filter(|line| !line.contains("\"seq\"")).collect();
    assert!(kept.len() < text.lines().count(), "no event was taken out");
    std::fs::write(&journal, kept.join("\n") + "\n").unwrap();
    vm.wait("running");
    assert_eq!(outline(&vm), expected);
}

#[test]
fn a_vmm_that_dies_is_failed_at_once_with_its_reason() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("shot", &["--", "sleep", "1000"]);
    let pid = vm.inspect()["pid"].as_u64().unwrap();
    host_process::kill(u32::try_from(pid).unwrap());
    vm.wait("failed");
    assert!(vm.inspect()["failure"]["reason"].as_str().is_some_and(|reason| reason.contains("VMM")));
}

#[test]
fn a_vm_whose_monitor_was_killed_and_still_holds_it_is_started_once_it_lets_go() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("held", &["--", "sleep", "1000"]);
    let vmm = u32::try_from(vm.inspect()["pid"].as_u64().unwrap()).unwrap();
    host_process::kill(host_process::monitor_of(&vm.dir()).expect("a monitor"));
    // A monitor under SIGKILL holds its lock until the last of its threads is gone. The test is that monitor.
    let lock = Lock::try_take(&vm.dir().join("monitor.lock")).unwrap().expect("nobody has it");
    host_process::kill(vmm);
    let looks = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&looks, vm.dir().join("monitor.lock"), inotify::WatchFlags::CLOSE_WRITE).unwrap();
    let mut start = lab.command(&["start", "held"]).spawn().unwrap();
    // The command looks whether somebody has the VM, its monitor tries to, and the command looks once more.
    let mut buffer = [MaybeUninit::uninit(); 512];
    let mut events = inotify::Reader::new(&looks, &mut buffer);
    let mut seen = 0;
    while seen < 3 {
        assert_eq!(start.try_wait().unwrap(), None, "it is said to run");
        match events.next() {
            Ok(_) => seen += 1,
            Err(Errno::AGAIN) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    drop(lock);
    let _ = finish(start).ok();
    vm.wait("running");
    assert_eq!(vm.sh("echo here"), "here\n");
}

#[test]
fn ten_vms_boot_stop_and_go_at_once() {
    let Some(lab) = Lab::open() else { return };
    std::thread::scope(|scope| {
        for index in 0..10 {
            let lab = &lab;
            scope.spawn(move || {
                let vm = lab.start(&format!("many-{index}"), &["--memory", "128M", "--", "sleep", "1000"]);
                vm.stop();
                assert_eq!(vm.state(), "stopped");
                vm.remove();
            });
        }
    });
    assert_eq!(lab.host_ctl(&["ps", "-a", "-q"]).ok().text(), "");
}

#[test]
fn two_commands_on_one_vm_at_the_same_time_never_corrupt_it() {
    let Some(lab) = Lab::open() else { return };
    for round in 0..3 {
        let name = format!("raced-{round}");
        let vm = lab.start(&name, &["--", "sleep", "1000"]);
        std::thread::scope(|scope| {
            for command in [&["stop"][..], &["kill"], &["rm", "-f"], &["inspect"], &["stop"]] {
                let (lab, name) = (&lab, name.as_str());
                scope.spawn(move || {
                    let run = lab.host_ctl(&[command, &[name]].concat());
                    // Each either does its work or says that the VM is gone or in the wrong state.
                    assert!([0, 3, 4].contains(&run.code()), "{command:?}: {} {}", run.code(), run.stderr);
                });
            }
        });
        drop(vm);
        assert_eq!(lab.host_ctl(&["ps", "-a", "-q"]).ok().text(), "", "round {round}");
    }
}

#[test]
fn a_name_is_given_to_one_of_many_who_ask_at_once() {
    let Some(lab) = Lab::open() else { return };
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..6)
            .map(|_| {
                scope.spawn(|| lab.host_ctl(&["run", "-d", "--name", "wanted", "--", "sleep", "1000"]).code())
            })
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 125).count(), 5, "{codes:?}");
}

#[test]
fn a_host_clock_stepped_back_an_hour_during_a_boot_changes_nothing() {
    let Some(lab) = Lab::open() else { return };
    let Some(faketime) = requirement::library("libfaketime.so.1") else {
        let _ = requirement::skip_for(Some("libfaketime is not installed; run `make setup`".into()));
        return;
    };
    // libfaketime reads the file again at every look at the clock.
    let clock = lab.path("clock");
    std::fs::write(&clock, "+0").unwrap();
    let command = |args: &[&str]| {
        let mut command = lab.command(args);
        command.env("LD_PRELOAD", &faketime).env("FAKETIME_TIMESTAMP_FILE", &clock);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        finish(command.spawn().unwrap()).ok()
    };
    let _ = command(&["run", "-d", "--name", "timely", "--wait", "none", "--", "sleep", "1000"]);
    std::fs::write(&clock, "-3600").unwrap();
    let _ = command(&["wait", "timely", "--for", "running", "--timeout", "90s"]);
    let vm = lab.vm("timely");
    let _ = outline(&vm);
    let running = vm.inspect()["timings"]["running"].as_f64().unwrap();
    assert!((0.0..90_000.0).contains(&running), "a boot of {running} ms");
    let _ = command(&["stop", "timely"]);
    assert_eq!(vm.state(), "stopped");
}

#[test]
fn a_full_disk_while_persisting_loses_no_event_and_no_vm() {
    let Some(lab) = Lab::open() else { return };
    let state_dir = lab.state_dir();
    let Some(disk) = SmallDisk::mount(&state_dir, 64) else {
        let _ = requirement::skip_for(Some("mounting a tmpfs needs root".into()));
        return;
    };
    let vm = lab.start("crowded", &["--", "sleep", "1000"]);
    let mut events = vm.follow_events();
    disk.fill();
    // Events come while nothing can be written: the agent dies and comes back. They are told all the same.
    let _ = vm.exec(&["sh", "-c", "kill -9 $PPID"]);
    events.until("AGENT-EXIT");
    events.until("AGENT-READY");
    assert_eq!(vm.exec(&["echo", "still here"]).ok().text(), "still here\n");
    assert_eq!(vm.state(), "running");
    disk.free();
    vm.stop();
    // Nobody is left who could remember: this is what was written down.
    assert_eq!(vm.state(), "stopped");
    assert!(outline(&vm).contains(&"AGENT-EXIT ".to_owned()));
    vm.remove();
}

#[track_caller]
fn clients_die_while_they_connect(road: &str) {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("dialled", &["--transport", road, "--", "sleep", "1000"]);
    // Some of them have gone before they are heard, some when the guest's answer comes.
    let mut clients = VecDeque::new();
    for number in 0..400 {
        let mut client = UnixStream::connect(vm.dir().join("boot/dialer.sock")).unwrap();
        client.write_all(b"CONNECT 1024\n").unwrap();
        clients.push_back(client);
        while clients.len() > number % 8 {
            clients.pop_front();
        }
    }
    assert_eq!(vm.sh("echo here"), "here\n");
}

#[test]
fn clients_that_die_while_they_connect_cost_nobody_else_the_guest() {
    clients_die_while_they_connect("vsock");
}

#[test]
fn clients_that_die_while_they_connect_over_a_serial_port_cost_nobody_else_the_guest() {
    clients_die_while_they_connect("serial");
}
