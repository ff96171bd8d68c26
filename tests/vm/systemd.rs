//! Guests whose PID 1 is systemd: two different images, the hand-over to systemd and the way back.

use std::fs;
use std::os::unix::fs::symlink;

use firstlight_tests::{Lab, Vm, disk};

/// systemd alone: no udev, no D-Bus.
fn small_debian() -> String {
    disk::debian_variant("systemd", "bookworm").to_str().unwrap().to_owned()
}

/// The fields of this boot's one event of this name.
#[track_caller]
fn event(vm: &Vm<'_>, name: &str) -> serde_json::Value {
    let inspected = vm.inspect();
    let events = inspected["events"].as_array().unwrap();
    let found: Vec<_> = events.iter().filter(|event| event["event"] == name).collect();
    assert_eq!(found.len(), 1, "{name} in {events:?}");
    found[0].clone()
}

#[test]
fn an_image_without_udev_or_d_bus_boots_to_running_and_comes_down_in_order() {
    let Some(lab) = Lab::open() else { return };
    let (root, data) = (small_debian(), lab.path("data.ext4"));
    disk::ext4(&data, 16);
    let volume = format!("{}:/data", data.display());
    // The command is an init, so the mode need not be named.
    let vm = lab.start("small", &["--rootfs", &root, "--volume", &volume, "--", "/sbin/init"]);
    assert_eq!(event(&vm, "PROGRAM-START")["mode"], "systemd");
    vm.wait("system-ready");
    assert_eq!(vm.inspect()["system"]["state"], "running", "{}", vm.inspect()["system"]);

    assert_eq!(vm.sh("cat /proc/1/comm"), "systemd\n");
    assert!(vm.sh("ip -4 -o addr show").contains("10.0.2.15/24"));
    assert_eq!(vm.sh("find /etc /usr -name 'firstlight*'"), "", "the image was written to");
    assert_eq!(
        vm.sh("stat -c %a /run/firstlight /run/firstlight/boot.json /run/firstlight/agent.json"),
        "700\n600\n600\n"
    );
    let _ = vm.exec(&["sh", "-c", "echo kept > /data/file"]).ok();

    vm.stop();
    let inspected = vm.inspect();
    assert_eq!((&inspected["state"], &inspected["forced"]), (&"stopped".into(), &serde_json::json!([])));
    let events = vm.events();
    assert_eq!(events[events.len() - 2..], ["EXIT", "POWER-OFF"], "{events:?}");
    let numbers = inspected["events"].as_array().unwrap().iter().map(|event| event["seq"].as_u64().unwrap());
    assert!(numbers.eq(1..=events.len() as u64), "numbers are missing: {events:?}");
    assert!(disk::is_clean(&data), "POWER-OFF was said with a file system still mounted");
}

#[test]
fn no_secret_shows_in_a_unit_an_environment_or_an_argument() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("secret", &["--rootfs", &small_debian(), "--", "/sbin/init"]);
    // The patterns come from a file, or the search itself would be found.
    let script = "cd /run/firstlight\n\
                  for setting in mac_key:boot token:agent; do\n\
                  sed \"s/.*\\\"${setting%:*}\\\":\\\"\\([0-9a-f]*\\).*/\\1/\" ${setting#*:}.json; echo\n\
                  done | grep . > patterns\n\
                  test $(wc -c < patterns) = 130 || exit 3\n\
                  cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /run/systemd/system/* 2>/dev/null |\n\
                  tr '\\0' '\\n' | grep -c -F -f patterns";
    let found = vm.exec(&["sh", "-c", script]);
    assert_eq!((found.code(), found.text().as_str()), (1, "0\n"), "{}", found.stderr);
}

#[test]
fn an_agent_that_dies_is_started_again_by_systemd_and_both_are_told() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("restart", &["--rootfs", &small_debian(), "--", "/sbin/init"]);
    let mut events = vm.follow_events();
    let _ = vm.exec(&["sh", "-c", "kill -9 $(systemctl show --property MainPID --value firstlight-agent)"]);
    events.until("AGENT-EXIT");
    events.until("AGENT-READY");
    let exit = event(&vm, "AGENT-EXIT");
    assert_eq!((&exit["signal"], &exit["restarts"]), (&9.into(), &1.into()), "{exit}");
    assert_eq!(vm.exec(&["echo", "back"]).ok().text(), "back\n");
    assert_eq!(vm.state(), "running");
}

#[test]
fn a_newer_systemd_with_networkd_keeps_the_network_and_names_what_failed() {
    let Some(lab) = Lab::open() else { return };
    let units = lab.path("units");
    fs::create_dir_all(units.join("multi-user.target.wants")).unwrap();
    fs::write(units.join("doomed.service"), "[Service]\nType=oneshot\nExecStart=/bin/false\n").unwrap();
    symlink("../doomed.service", units.join("multi-user.target.wants/doomed.service")).unwrap();
    let image = lab.path("units.ext4");
    disk::ext4_from(&image, 16, Some(&units));
    let root = disk::debian_variant("networkd", "trixie").to_str().unwrap().to_owned();
    let volume = format!("{}:/usr/local/lib/systemd/system:ro", image.display());
    let args = ["--machine", "q35", "--rootfs", &root, "--volume", &volume, "--mode", "systemd"];
    let vm = lab.start("networkd", &args);
    vm.wait("system-ready");
    let system = vm.inspect()["system"].clone();
    assert_eq!(system, serde_json::json!({ "state": "degraded", "failed": ["doomed.service"] }));

    assert!(vm.sh("systemctl is-active systemd-networkd").contains("active"));
    let addresses = vm.sh("ip -4 -o addr show scope global");
    assert!(addresses.contains("10.0.2.15/24") && addresses.lines().count() == 1, "{addresses}");
    assert_eq!(vm.sh("ip -4 route show default").trim(), "default via 10.0.2.2 dev eth0");
    vm.stop();
    assert_eq!(vm.inspect()["forced"], serde_json::json!([]));
}

#[test]
fn an_init_that_is_missing_or_is_not_systemd_fails_in_words() {
    let Some(lab) = Lab::open() else { return };
    let run = lab.host_ctl(&["run", "--name", "busybox", "--", "/sbin/init"]);
    assert_eq!(run.code(), 125, "{}", run.stderr);
    assert!(run.stderr.contains("busybox, not systemd; use --mode exec"), "{}", run.stderr);
    let run = lab.host_ctl(&["run", "--name", "missing", "--mode", "systemd", "--", "/no/init"]);
    assert_eq!(run.code(), 127, "{}", run.stderr);
    assert!(run.stderr.contains("/no/init"), "{}", run.stderr);
    for name in ["busybox", "missing"] {
        let events = lab.vm(name).events();
        assert!(!events.contains(&"PROGRAM-START".to_owned()), "{events:?}");
        assert!(events.contains(&"FATAL".to_owned()), "{events:?}");
    }
}

#[test]
fn a_system_powered_off_from_inside_is_stopped_and_not_failed() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("inside", &["--rootfs", &small_debian(), "--", "/sbin/init"]);
    let _ = vm.exec(&["systemctl", "poweroff"]);
    vm.wait("stopped");
    assert_eq!(vm.inspect()["exit"]["code"], 0);
    let waited = lab.host_ctl(&["wait", "inside", "--for", "system-ready"]);
    assert!(matches!(waited.code(), 0 | 4), "{}", waited.stderr);
}

#[test]
fn a_unit_that_does_not_stop_is_ended_when_the_grace_is_over() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("stubborn", &["--rootfs", &small_debian(), "--", "/sbin/init"]);
    let unit = "[Service]\nTimeoutStopSec=infinity\n\
                ExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 1000; done'\n\
                KillMode=process\n";
    let script =
        format!("cat > /run/systemd/system/stubborn.service <<'END'\n{unit}END\nsystemctl start stubborn");
    let _ = vm.exec(&["sh", "-c", &script]).ok();
    let _ = lab.host_ctl(&["stop", "-t", "1s", "stubborn"]).ok();
    assert_eq!(vm.inspect()["forced"], serde_json::json!([]), "the host had to end it");
    assert!(vm.events().ends_with(&["EXIT".to_owned(), "POWER-OFF".to_owned()]), "{:?}", vm.events());
}
