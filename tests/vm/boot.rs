//! A VM runs what it was asked to, in the guest, from each kind of root.

use firstlight_tests::{Lab, disk};
use serde_json::Value;

#[test]
fn one_command_boots_a_vm_and_prints_what_it_ran() {
    let Some(lab) = Lab::open() else { return };
    let run = lab.host_ctl(&["run", "--rm", "--", "echo", "hi"]).ok();
    assert_eq!(run.text(), "hi\n");
}

#[test]
fn the_command_really_runs_in_the_guest() {
    let Some(lab) = Lab::open() else { return };
    let script = "cat /proc/sys/kernel/random/boot_id; uname -r; echo $$";
    let run = lab.host_ctl(&["run", "--rm", "--", "sh", "-c", script]).ok();
    let guest: Vec<String> = run.text().lines().map(str::to_owned).collect();
    let host = |path| std::fs::read_to_string(path).unwrap().trim().to_owned();
    assert_ne!(guest[0], host("/proc/sys/kernel/random/boot_id"));
    assert_ne!(guest[1], host("/proc/sys/kernel/osrelease"));
}

#[test]
fn a_root_with_one_static_binary_and_no_shell_is_enough() {
    let Some(lab) = Lab::open() else { return };
    let root = disk::scratch_root(&lab.path(""), "echo");
    let run = lab.host_ctl(&["run", "--rm", "--rootfs", root.to_str().unwrap(), "--", "/echo", "alone"]).ok();
    assert_eq!(run.text(), "alone\n");
}

#[test]
fn every_kind_of_root_boots_and_can_be_written() {
    let Some(lab) = Lab::open() else { return };
    let root = disk::busybox_root(&lab.path(""));
    std::fs::write(root.join("etc/origin"), "host").unwrap();
    let ext4 = lab.path("root.ext4");
    disk::ext4_from(&ext4, 16, Some(&root));
    let tar = lab.path("root.tar");
    assert!(
        std::process::Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&tar)
            .arg(".")
            .status()
            .unwrap()
            .success()
    );
    let squashfs = lab.path("root.squashfs");
    let mksquashfs =
        std::process::Command::new("mksquashfs").arg(&root).arg(&squashfs).arg("-quiet").output();
    assert!(mksquashfs.unwrap().status.success());
    for rootfs in [root, ext4, tar, squashfs] {
        let script = "cat /etc/origin; echo guest >/etc/origin && cat /etc/origin";
        let run = lab
            .host_ctl(&["run", "--rm", "--rootfs", rootfs.to_str().unwrap(), "--", "sh", "-c", script])
            .ok();
        assert_eq!(run.text(), "hostguest\n", "{}", rootfs.display());
    }
}

#[test]
fn the_image_a_root_came_from_is_never_written() {
    let Some(lab) = Lab::open() else { return };
    let root = disk::busybox_root(&lab.path(""));
    let image = lab.path("root.ext4");
    disk::ext4_from(&image, 16, Some(&root));
    let before = std::fs::read(&image).unwrap();
    let run =
        ["run", "--rm", "--rootfs", image.to_str().unwrap(), "--", "sh", "-c", "echo x >/new; cat /new"];
    assert_eq!(lab.host_ctl(&run).ok().text(), "x\n");
    assert!(std::fs::read(&image).unwrap() == before, "the image changed");
}

#[test]
fn both_machines_and_both_stage_orders_boot() {
    let Some(lab) = Lab::open() else { return };
    for machine in ["microvm", "q35"] {
        for stages in ["graph", "serial"] {
            let args = ["run", "--rm", "--machine", machine, "--stages", stages, "--", "echo", "hi"];
            assert_eq!(lab.host_ctl(&args).ok().text(), "hi\n", "{machine} {stages}");
        }
    }
}

#[test]
fn inspect_has_the_boot_s_times_in_order_and_its_events() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("timed", &["--", "sleep", "1000"]);
    let inspected = vm.inspect();
    assert_eq!(inspected["name"], "timed");
    assert_eq!(inspected["state"], "running");
    assert!(inspected["pid"].as_u64().is_some());
    assert_eq!(inspected["boot_id"].as_str().unwrap().len(), 8);
    let time = |name: &str| inspected["timings"][name].as_f64().unwrap_or_else(|| panic!("no timing {name}"));
    let times = ["vmm_started", "init_start", "program_start", "running"].map(time);
    assert!(times.is_sorted(), "{times:?}");
    assert!(time("agent_ready") <= time("running"));
    let events = vm.events();
    assert_eq!(events.first().map(String::as_str), Some("INIT-START"));
    assert!(events.iter().any(|event| event == "AGENT-READY"), "{events:?}");
}

#[test]
fn a_real_debian_boots_with_a_volume_and_the_network() {
    let Some(lab) = Lab::open() else { return };
    let root = disk::debian();
    let data = lab.path("data.ext4");
    disk::ext4(&data, 16);
    let volume = format!("{}:/data", data.display());
    let flags =
        ["--rootfs", root.to_str().unwrap(), "--volume", &volume, "--net", "user", "--memory", "512M"];
    let vm = lab.start("debian", &[&flags[..], &["--", "sleep", "1000"]].concat());
    assert!(vm.sh(". /etc/os-release; echo $ID").starts_with("debian"));
    assert_eq!(vm.sh("dpkg --status libc6 | grep -c '^Status: install ok installed'"), "1\n");
    assert_eq!(vm.sh("findmnt -n -o FSTYPE /data"), "ext4\n");
    assert!(vm.sh("ip -4 -o addr show scope global").contains("10.0.2.15/24"));
}

#[test]
fn a_boot_chart_shows_what_each_stage_waited_for() {
    let Some(lab) = Lab::open() else { return };
    let _ = lab.start("chart", &["--", "sleep", "1000"]);
    let chart: Value =
        serde_json::from_slice(&lab.host_ctl(&["--json", "boot-chart", "chart"]).ok().stdout).unwrap();
    let rows = chart["rows"].as_array().unwrap();
    let row = |label: &str| rows.iter().find(|row| row["label"] == label).unwrap();
    let needs = |label: &str, need: &str| row(label)["needs"].as_array().unwrap().contains(&need.into());
    assert!(
        needs("agent", "root") && needs("agent", "modules:vsock") && needs("program", "agent"),
        "{chart}"
    );
    assert_eq!(row("program")["critical"], true);
    for row in rows {
        for need in row["needs"].as_array().unwrap() {
            let need = rows.iter().find(|other| other["label"] == *need).unwrap();
            assert!(need["end"].as_f64() <= row["start"].as_f64(), "{row} began before {need} was done");
        }
    }
    let svg = lab.path("chart.svg");
    let _ = lab.host_ctl(&["boot-chart", "chart", "--svg", svg.to_str().unwrap()]).ok();
    assert!(std::fs::read_to_string(svg).unwrap().contains("modules:vsock"));
}
