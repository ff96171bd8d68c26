//! batch, probe, stats, health and `inspect --live`: what a guest says of itself, in one round trip.

use std::io::Write as _;
use std::process::Stdio;

use firstlight_tests::{Finished, Lab, Vm};
use serde_json::Value;

/// `host-ctl batch ARGS` with these operations.
#[track_caller]
fn batch(lab: &Lab, args: &[&str], operations: &str) -> Finished {
    let mut command = lab.command(&[&["batch", "--json"], args].concat());
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(operations.as_bytes()).unwrap();
    firstlight_tests::lab::finish(child)
}

#[track_caller]
fn find<'a>(array: &'a Value, key: &str, name: &str) -> &'a Value {
    let mut entries = array.as_array().unwrap().iter();
    entries.find(|entry| entry[key] == name).unwrap_or_else(|| panic!("no {name} in {array}"))
}

#[test]
fn a_batch_gives_each_operation_its_own_result() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("batch", &["--", "sleep", "1000"]);
    let operations = r#"[
        {"id": "who", "op": "exec", "argv": ["id", "-u"]},
        {"id": "slow", "op": "exec", "argv": ["sh", "-c", "echo begun; exec sleep 1000"], "timeout_ms": 5000},
        {"id": "missing", "op": "exec", "argv": ["/no/such/command"]},
        {"id": "guest", "op": "status"}
    ]"#;
    let run = batch(&lab, &["--parallel", "4", "batch"], operations);
    assert_eq!(run.code(), 1, "{}", run.stderr);
    let report = run.json();
    let result = |id| find(&report["results"], "id", id);
    assert_eq!(result("who")["answer"]["stdout"], "0\n");
    assert_eq!(result("slow")["result"], "timed-out");
    assert_eq!(result("slow")["output"]["stdout"], "begun\n");
    assert_eq!(result("missing")["error"]["errno"], 2);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_ne!(result("guest")["answer"]["kernel_boot_id"], boot_id.trim());
    assert_eq!(report["failures"], 2);

    let stopped =
        batch(&lab, &["--stop-on-error", "batch"], r#"[{"op":"exec","argv":["false"]},{"op":"status"}]"#);
    assert_eq!(stopped.json()["results"][1]["reason"], "after-error");
    let nested = batch(&lab, &["batch"], r#"[{"op":"batch"}]"#);
    assert_eq!(nested.code(), 2, "{}", nested.stderr);
    assert!(nested.stderr.contains("operation 1"), "{}", nested.stderr);
    drop(vm);
}

#[test]
fn a_probe_tells_what_is_there_from_what_is_not_and_from_what_nobody_knows() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("probed", &["--", "sleep", "1000"]);
    let checks = ["--check", "sh=echo sh 1.2.3", "--check", "none=no-such-tool", "--check", "bad=exit 3"];
    let run = lab.host_ctl(&[&["probe", "--json", "probed", "git"][..], &checks].concat());
    assert_eq!(run.code(), 1, "{}", run.stderr);
    let report = run.json();
    let finding = |name| find(&report["findings"], "name", name);
    assert_eq!(finding("git")["outcome"], "absent");
    assert_eq!((&finding("sh")["outcome"], &finding("sh")["version"]), (&"present".into(), &"1.2.3".into()));
    assert_eq!(finding("none")["outcome"], "absent");
    assert_eq!(
        (&finding("bad")["outcome"], &finding("bad")["cause"]),
        (&"unknown".into(), &"exit code 3".into())
    );

    vm.stop();
    let gone = lab.host_ctl(&["probe", "--json", "probed", "git"]);
    assert_eq!(gone.code(), 4, "{}", gone.stderr);
    assert_eq!(find(&gone.json()["findings"], "name", "git")["outcome"], "unknown");
}

#[test]
fn stats_count_what_the_guest_uses() {
    let Some(lab) = Lab::open() else { return };
    let _vm = lab.start("counted", &["--memory", "256M", "--", "sh", "-c", "while :; do :; done"]);
    let report = lab.host_ctl(&["stats", "--json", "counted"]).ok().json();
    let (stats, rates) = (&report["vms"][0]["stats"], &report["vms"][0]["rates"]);
    let total = stats["memory"]["total"].as_u64().unwrap();
    assert!((128 << 20..=256 << 20).contains(&total), "{stats}");
    assert_eq!(stats["cpu"]["count"], 1);
    assert!(rates["program_cpu_percent"].as_f64().unwrap() > 0.0, "{rates}");
    // The program spins on the only processor, so it has most of whatever time the host gives to the guest. Both are
    // counted in the guest, over long enough that a clock tick more or less does not matter.
    let count = |stats: &Value, path: &str| stats.pointer(path).unwrap().as_u64().unwrap();
    let of_program = |now: &Value| count(now, "/program/cpu_us") - count(stats, "/program/cpu_us");
    let mut now = stats.clone();
    while of_program(&now) < 1_000_000 {
        now = lab.host_ctl(&["stats", "--json", "counted"]).ok().json()["vms"][0]["stats"].clone();
    }
    let of_all = ["/cpu/user_us", "/cpu/system_us"].map(|path| count(&now, path) - count(stats, path));
    assert!(of_program(&now) > of_all.iter().sum::<u64>() / 2, "{stats} {now}");
    let mut watching = lab.follow(&["stats", "--watch", "--interval", "200ms", "counted"]);
    watching.until("counted");
    watching.until("counted");
}

#[test]
fn health_follows_the_program_and_leaves_its_state_alone() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("patient", &["--", "sleep", "1000"]);
    let unchecked = lab.host_ctl(&["health", "--json", "patient"]).ok().json();
    assert_eq!(unchecked["state"], "unchecked");
    let set =
        ["health", "--json", "patient", "--check", "file=exec:test -e /tmp/well", "--interval", "200ms"];
    let ill = lab.host_ctl(&[&set[..], &["--failures", "1", "--wait", "60s"]].concat());
    assert_eq!((ill.code(), &ill.json()["state"]), (1, &"unhealthy".into()), "{}", ill.stderr);
    assert_eq!(vm.state(), "running");
    let _ = vm.sh("touch /tmp/well");
    wait_for_health(&lab, "healthy");
    // The checks belong to the guest: a new agent goes on with them.
    let pid = vm.sh("awk '/^PPid/ {print $2}' /proc/self/status");
    let _ = vm.exec(&["kill", "-9", pid.trim()]);
    wait_for_agent(&vm);
    wait_for_health(&lab, "healthy");
    let _ = vm.sh("rm /tmp/well");
    wait_for_health(&lab, "unhealthy");
}

/// Asks until the checks have come to this; each question takes a guest a moment.
#[track_caller]
fn wait_for_health(lab: &Lab, state: &str) {
    let begun = std::time::Instant::now();
    while lab.host_ctl(&["health", "--json", "--wait", "60s", "patient"]).json()["state"] != state {
        assert!(begun.elapsed().as_secs() < 60, "never {state}");
    }
}

/// Follows the events until the agent has become ready for the second time.
#[track_caller]
fn wait_for_agent(vm: &Vm<'_>) {
    let mut events = vm.follow_events();
    events.until("AGENT-READY");
    events.until("AGENT-READY");
}

#[test]
fn inspect_live_asks_the_guest_and_shows_what_the_host_knows_when_it_cannot() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("live", &["--net", "user", "--", "sleep", "1000"]);
    let live = lab.host_ctl(&["inspect", "--json", "--live", "live"]).ok().json()["live"].clone();
    assert_eq!(live["status"]["value"]["hostname"], live["network"]["value"]["hostname"]);
    assert_eq!(live["versions"]["value"]["kernel"], live["status"]["value"]["kernel"]);
    assert_eq!(live["health"]["value"]["state"], "unchecked");
    assert!(live["stats"]["value"]["memory"]["total"].as_u64().unwrap() > 0, "{live}");
    let interfaces = &live["network"]["value"]["interfaces"];
    assert_eq!(find(interfaces, "name", "eth0")["addresses"][0], "10.0.2.15/24", "{live}");
    vm.stop();
    let stopped = lab.host_ctl(&["inspect", "--json", "--live", "live"]).ok().json();
    assert_eq!(stopped["state"], "stopped");
    assert!(stopped["live"]["error"].as_str().unwrap().contains("stopped"), "{stopped}");
}

#[test]
fn a_hundred_in_a_batch_cost_less_than_a_twentieth_of_a_hundred_apart() {
    let Some(lab) = Lab::open() else { return };
    let _vm = lab.start("many", &["--", "sleep", "1000"]);
    let stat = r#"{"op":"stat","path":"/bin/busybox"}"#;
    let timed = |operations: &str| {
        let begun = std::time::Instant::now();
        let _ = batch(&lab, &["many"], operations).ok();
        begun.elapsed()
    };
    let apart: std::time::Duration = (0..100).map(|_| timed(&format!("[{stat}]"))).sum();
    let all = format!("[{}]", vec![stat; 100].join(","));
    // A busy machine delays some; the middle one of five is what a batch costs.
    let mut together: Vec<std::time::Duration> = (0..5).map(|_| timed(&all)).collect();
    together.sort_unstable();
    let together = together[2];
    assert!(together * 20 < apart, "{together:?} together, {apart:?} apart");
}
