//! exec, the agent's death, and boots without an agent.

use firstlight_tests::{Lab, Vm};

#[test]
fn exec_keeps_streams_apart_and_gives_back_the_exit_code() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("exec", &["--", "sleep", "1000"]);
    let run = vm.exec(&["sh", "-c", "echo out; echo err >&2; exit 5"]);
    assert_eq!((run.code(), run.text().as_str(), run.stderr.as_str()), (5, "out\n", "err\n"));
    assert_eq!(vm.exec(&["sh", "-c", "kill -TERM $$"]).code(), 128 + 15);
    assert_eq!(vm.exec(&["/no/such/command"]).code(), 127);
    assert_eq!(vm.exec(&["/etc/passwd"]).code(), 126);
}

#[test]
fn exec_reports_the_exit_although_a_background_child_holds_the_pipes() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("holder", &["--", "sleep", "1000"]);
    let run = vm.exec(&["sh", "-c", "sleep 1000 & echo started"]).ok();
    assert_eq!(run.text(), "started\n");
}

#[test]
fn exec_times_out_and_ends_the_whole_group() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("slow", &["--", "sleep", "1000"]);
    let run = lab.host_ctl(&["exec", "--timeout", "1s", "slow", "--", "sh", "-c", "sleep 777 & sleep 777"]);
    assert_eq!(run.code(), 124, "{}", run.stderr);
    // The pattern does not match the shell that looks for it.
    assert_eq!(vm.exec(&["pgrep", "-f", "sleep 77[7]"]).text(), "");
}

#[test]
fn exec_carries_standard_input() {
    let Some(lab) = Lab::open() else { return };
    let _vm = lab.start("input", &["--", "sleep", "1000"]);
    let mut command = lab.command(&["exec", "-i", "input", "--", "md5sum"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let input = vec![b'x'; 8 << 20];
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, &input).unwrap();
    drop(stdin);
    let run = firstlight_tests::lab::finish(child).ok();
    // md5 of 8 MiB of `x`.
    let expected = std::process::Command::new("sh")
        .arg("-c")
        .arg("head -c 8388608 /dev/zero | tr '\\0' x | md5sum")
        .output();
    assert_eq!(run.stdout, expected.unwrap().stdout);
}

#[test]
fn a_killed_agent_comes_back_and_the_program_never_notices() {
    let Some(lab) = Lab::open() else { return };
    let script = "i=0; while [ $i -lt 20000 ]; do echo $i; i=$((i+1)); done; sleep 1000";
    let vm = lab.start("survivor", &["--", "sh", "-c", script]);
    let mut logs = vm.follow_logs();
    assert_eq!(logs.line(), "0");
    for round in 1..=3 {
        // The agent is the parent of what it executes; killing it breaks this very exec.
        let _ = vm.exec(&["sh", "-c", "kill -9 $PPID"]);
        wait_for_restart(&vm, round);
    }
    for line in 1..20_000 {
        assert_eq!(logs.line(), line.to_string());
    }
    assert_eq!(vm.state(), "running");
}

/// Follows the events until the agent has become ready once more than it was restarted.
#[track_caller]
fn wait_for_restart(vm: &Vm<'_>, restarts: usize) {
    let mut events = vm.follow_events();
    for _ in 0..=restarts {
        events.until("AGENT-READY");
    }
}

#[test]
fn a_boot_without_an_agent_reaches_running_and_refuses_what_needs_one() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("bare", &["--skip-guest-agent", "--", "sh", "-c", "echo hello; sleep 1000"]);
    assert_eq!(vm.state(), "running");
    assert_eq!(vm.follow_logs().line(), "hello", "the console is its output, from the first byte");
    assert!(!vm.events().iter().any(|event| event == "AGENT-READY"));
    let run = vm.exec(&["true"]);
    assert_eq!(run.code(), 125, "{}", run.stderr);
    assert!(run.stderr.contains("agent"), "{}", run.stderr);
    vm.stop();
    assert_eq!(vm.state(), "stopped");
    // One that has written before anybody could have told of it.
    let run = lab.host_ctl(&["run", "--rm", "--skip-guest-agent", "--", "echo", "hello"]);
    assert_eq!(run.ok().text(), "hello\n");
}
