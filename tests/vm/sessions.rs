//! Sessions: terminals, readers that stop, die and come back, bulk, many at a time, and ends told apart.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use firstlight_tests::lab::finish;
use firstlight_tests::terminal::Terminal;
use firstlight_tests::{Lab, Vm, host_process};
use serde_json::Value;

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success(), "kill -{name}");
}

fn numbers(last: u32) -> Vec<u8> {
    (1..=last).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

/// Every session of a VM.
#[track_caller]
fn sessions(lab: &Lab, vm: &Vm<'_>) -> Vec<Value> {
    lab.host_ctl(&["sessions", "--json", vm.name()]).ok().json()["sessions"].as_array().unwrap().clone()
}

/// Starts a session with `exec -d`, and gives its number.
#[track_caller]
fn detached(lab: &Lab, vm: &Vm<'_>, script: &str) -> String {
    let run = lab.host_ctl(&["exec", "-d", vm.name(), "--", "sh", "-c", script]).ok();
    run.text().trim().to_owned()
}

#[test]
fn a_terminal_has_the_window_s_size_follows_it_and_is_put_back() {
    let Some(lab) = Lab::open() else { return };
    let _vm = lab.start("tty", &["--", "sleep", "1000"]);
    let mut terminal = Terminal::open(33, 101);
    let before = terminal.mode();
    // The trap is there before the size is told: what comes after the first line meets it.
    let script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.1; done";
    let mut child = terminal.run(&lab.command(&["exec", "-it", "tty", "--", "sh", "-c", script]));
    terminal.read_until("33 101");
    assert!(terminal.is_raw());
    terminal.resize(44, 99);
    terminal.read_until("44 99");
    terminal.type_in(b"\x03");
    // The program's end by SIGINT, which was a key here and a signal only there.
    assert_eq!(child.wait().unwrap().code(), Some(130));
    terminal.wait_for_mode(&before);
}

#[test]
fn the_terminal_is_put_back_when_host_ctl_is_ended_and_when_it_is_killed() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("killed", &["--", "sleep", "1000"]);
    for name in ["TERM", "KILL"] {
        let mut terminal = Terminal::open(24, 80);
        let before = terminal.mode();
        let script = "trap '' HUP; echo ready; read word; echo got $word; exit 6";
        let mut child = terminal.run(&lab.command(&["exec", "-it", "killed", "--", "sh", "-c", script]));
        terminal.read_until("ready");
        assert!(terminal.is_raw());
        signal(&child, name);
        let status = child.wait().unwrap();
        assert_eq!(status.code(), if name == "TERM" { Some(128 + 15) } else { None });
        terminal.wait_for_mode(&before);
        // The shell goes on, and whoever attaches is where the other was.
        let running = sessions(&lab, &vm).into_iter().find(|session| session["end"].is_null()).unwrap();
        assert_eq!(running["terminal"], true);
        let id = running["id"].to_string();
        let mut attached = terminal.run(&lab.command(&["attach", "killed", &id]));
        terminal.read_until("ready");
        terminal.type_in(b"word\r");
        terminal.read_until("got word");
        assert_eq!(attached.wait().unwrap().code(), Some(6));
    }
}

#[test]
fn shell_runs_commands_from_a_pipe_and_exits_with_their_code() {
    let Some(lab) = Lab::open() else { return };
    let _vm = lab.start("shell", &["--", "sleep", "1000"]);
    let mut child = lab.command(&["shell", "shell"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"echo $((6 * 7))\nexit 9\n").unwrap();
    let run = finish(child);
    assert_eq!((run.text().as_str(), run.code()), ("42\n", 9));
}

#[test]
fn whoever_attaches_where_a_killed_client_was_misses_and_repeats_no_byte() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("resume", &["--", "sleep", "1000"]);
    let expected = numbers(300_000);
    let mut child = lab.command(&["exec", "resume", "--", "seq", "1", "300000"]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut bytes = vec![0; 200_000];
    stdout.read_exact(&mut bytes).unwrap();
    signal(&child, "KILL");
    child.wait().unwrap();
    stdout.read_to_end(&mut bytes).unwrap();
    let id = sessions(&lab, &vm)[0]["id"].to_string();
    let rest = lab.host_ctl(&["attach", "resume", &id, "--from", &bytes.len().to_string()]).ok();
    assert_eq!(rest.stderr, "");
    bytes.extend(rest.stdout);
    assert!(bytes == expected, "{} of {} bytes", bytes.len(), expected.len());
}

#[test]
fn a_client_that_is_killed_with_output_unread_is_known_to_be_gone() {
    /// What the agent keeps of one session.
    const RING: u64 = 256 * 1024;
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("unread", &["--", "sleep", "1000"]);
    // Nobody reads what it prints, so it reads no more itself, and in the end the command waits.
    let mut child = lab.command(&["exec", "unread", "--", "seq", "1", "300000"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let (id, oldest) = loop {
        assert!(Instant::now() < deadline, "the command never waited");
        let Some(session) = sessions(&lab, &vm).into_iter().next() else { continue };
        let place = |name: &str| session[name].as_u64().unwrap();
        if place("sequence") - place("oldest") == RING {
            break (session["id"].to_string(), place("oldest"));
        }
    };
    signal(&child, "KILL");
    child.wait().unwrap();
    let rest = lab.host_ctl(&["attach", "unread", &id, "--from", &oldest.to_string()]).ok();
    assert_eq!(rest.stderr, "");
    assert!(rest.stdout == numbers(300_000)[usize::try_from(oldest).unwrap()..]);
}

#[test]
fn a_reader_stopped_for_30_s_loses_nothing_and_delays_nobody_else() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("stopped", &["--", "sleep", "1000"]);
    let mut child = lab.command(&["exec", "stopped", "--", "seq", "1", "300000"]).spawn().unwrap();
    let mut begun = [0; 2];
    child.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    signal(&child, "STOP");
    let _ = vm.exec(&["sleep", "30"]).ok();
    let running = sessions(&lab, &vm);
    assert!(running[0]["end"].is_null() && running[0]["oldest"].as_u64() < running[0]["sequence"].as_u64());
    signal(&child, "CONT");
    let run = finish(child).ok();
    assert!([begun.as_slice(), &run.stdout].concat() == numbers(300_000));
}

#[test]
fn a_gibibyte_comes_through_exec_unchanged() {
    const BLOCK: usize = 16 << 20;
    const BLOCKS: usize = 64;
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("bulk", &["-m", "512M", "--", "sleep", "1000"]);
    let sum = vm.sh("dd if=/dev/urandom of=/tmp/block bs=1M count=16 2>/dev/null; md5sum </tmp/block");
    let script = format!("for i in $(seq {BLOCKS}); do dd if=/tmp/block bs=64k 2>/dev/null; done");
    let mut child = lab.command(&["exec", "bulk", "--", "sh", "-c", &script]).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut first = vec![0; BLOCK];
    stdout.read_exact(&mut first).unwrap();
    let mut block = vec![0; BLOCK];
    for number in 1..BLOCKS {
        stdout.read_exact(&mut block).unwrap();
        assert!(block == first, "block {number}");
    }
    assert_eq!(stdout.read(&mut block).unwrap(), 0);
    assert!(child.wait().unwrap().success());
    let mut md5 = Command::new("md5sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    md5.stdin.take().unwrap().write_all(&first).unwrap();
    assert_eq!(finish(md5).ok().text(), sum);
}

#[test]
fn a_hundred_commands_run_at_once_in_one_vm() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("many", &["-m", "512M", "--", "sleep", "1000"]);
    let start = |number: u32| {
        let script = format!("cat >/dev/null; echo {number}; exit {number}");
        let mut command = lab.command(&["exec", "-i", "many", "--", "sh", "-c", &script]);
        command.stdin(Stdio::piped()).spawn().unwrap()
    };
    let mut children: Vec<Child> = (0..100).map(start).collect();
    // None ends before all of them run.
    while sessions(&lab, &vm).len() < children.len() {
        if let Some(ended) = children.iter_mut().position(|child| child.try_wait().unwrap().is_some()) {
            panic!("a command ended early: {:?}", finish(children.swap_remove(ended)));
        }
    }
    for child in &mut children {
        drop(child.stdin.take());
    }
    for (number, child) in children.into_iter().enumerate() {
        let run = finish(child);
        assert_eq!((run.text(), run.code()), (format!("{number}\n"), i32::try_from(number).unwrap()));
    }
    assert!(sessions(&lab, &vm).is_empty());
}

#[test]
fn a_session_outlives_its_client_and_is_waited_for() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("durable", &["--", "sleep", "1000"]);
    let id = detached(&lab, &vm, "echo out; exit 3");
    assert_eq!(lab.host_ctl(&["wait", "durable", "--session", &id]).ok().text(), "3\n");
    let attached = lab.host_ctl(&["attach", "durable", &id]);
    assert_eq!((attached.text().as_str(), attached.code()), ("out\n", 3));
    let stuck = lab.host_ctl(&["exec", "-d", "-i", "durable", "--", "sh", "-c", "read word; exit 4"]).ok();
    let stuck = stuck.text().trim().to_owned();
    assert_eq!(lab.host_ctl(&["wait", "durable", "--session", &stuck, "--timeout", "100ms"]).code(), 124);
    assert_eq!(lab.host_ctl(&["exec", "--kill", "durable", &stuck]).code(), 0);
    let waited = lab.host_ctl(&["wait", "durable", "--session", &stuck, "--json"]).ok().json();
    assert_eq!((&waited["end"]["signal"], &waited["end"]["exit_code"]), (&Value::from(9), &Value::from(137)));
    assert_eq!(lab.host_ctl(&["attach", "durable", "999"]).code(), 125);
}

#[test]
fn each_end_is_told_apart_and_nothing_of_a_session_survives_its_kill() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("ends", &["--", "sleep", "1000"]);
    // A child that left the process group is still in the cgroup.
    let script = "setsid sleep 777 & sleep 777";
    let run = lab.host_ctl(&["exec", "--timeout", "1s", "ends", "--", "sh", "-c", script]);
    assert_eq!(run.code(), 124, "{}", run.stderr);
    let id = detached(&lab, &vm, script);
    let _ = lab.host_ctl(&["exec", "--kill", "ends", &id]).ok();
    let _ = lab.host_ctl(&["wait", "ends", "--session", &id]).ok();
    assert_eq!(vm.exec(&["pgrep", "-f", "sleep 77[7]"]).text(), "");
    let hungry = "group=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); echo 8M >$group/memory.max; \
                  echo 0 >$group/memory.swap.max 2>/dev/null; tail /dev/zero";
    let id = detached(&lab, &vm, hungry);
    let ended = lab.host_ctl(&["wait", "ends", "--session", &id, "--json"]).ok().json();
    assert_eq!((&ended["end"]["how"], &ended["end"]["exit_code"]), (&"out-of-memory".into(), &137.into()));
    let run = lab.host_ctl(&["exec", "-d", "ends", "--", "/no/such/command"]);
    assert_eq!(run.code(), 127, "{}", run.stderr);
    assert!(run.stderr.contains("exec /no/such/command"), "{}", run.stderr);
}

#[test]
fn the_first_interrupt_is_passed_on_and_the_second_kills() {
    let Some(lab) = Lab::open() else { return };
    let _vm = lab.start("interrupt", &["--", "sleep", "1000"]);
    let script = "trap 'echo caught' INT; echo ready; while :; do sleep 0.1; done";
    let mut child = lab.command(&["exec", "interrupt", "--", "sh", "-c", script]).spawn().unwrap();
    let mut line = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    signal(&child, "INT");
    let mut caught = [0; 7];
    child.stdout.as_mut().unwrap().read_exact(&mut caught).unwrap();
    assert_eq!(&caught, b"caught\n");
    assert!(host_process::is_alive(child.id()));
    signal(&child, "INT");
    assert_eq!(finish(child).code(), 137);
}

#[test]
fn a_session_that_does_not_exist_is_named_and_where_to_look_for_others() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("none", &["--", "sleep", "1000"]);
    for command in
        [&["attach", "none", "7"][..], &["wait", "--session", "7", "none"], &["exec", "--kill", "none", "7"]]
    {
        let run = lab.host_ctl(command);
        assert_ne!(run.code(), 0, "{command:?}");
        assert!(run.stderr.contains("no session 7"), "{command:?}: {}", run.stderr);
        assert!(run.stderr.contains("host-ctl sessions none"), "{command:?}: {}", run.stderr);
    }
    drop(vm);
}
