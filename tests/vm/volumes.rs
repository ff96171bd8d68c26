//! Volumes: modes, durability, and a volume over `/etc`.

use firstlight_tests::{Lab, disk};

#[test]
fn a_stop_flushes_what_was_written_a_moment_before() {
    let Some(lab) = Lab::open() else { return };
    let image = lab.path("data.ext4");
    disk::ext4(&image, 16);
    let volume = format!("{}:/data", image.display());
    let vm = lab.start("writer", &["--volume", &volume, "--", "sleep", "1000"]);
    let sum = vm.sh("head -c 4194304 /dev/urandom >/data/blob; md5sum </data/blob");
    vm.stop();
    let read = lab.host_ctl(&[
        "run",
        "--rm",
        "--volume",
        &format!("{volume}:ro"),
        "--",
        "sh",
        "-c",
        "md5sum </data/blob",
    ]);
    assert_eq!(read.ok().text(), sum);
}

#[test]
fn a_read_only_volume_refuses_writes_and_an_overlay_forgets_them() {
    let Some(lab) = Lab::open() else { return };
    let image = lab.path("data.ext4");
    disk::ext4(&image, 16);
    let before = std::fs::read(&image).unwrap();
    let run = |mode: &str, script: &str| {
        let volume = format!("{}:/data:{mode}", image.display());
        lab.host_ctl(&["run", "--rm", "--volume", &volume, "--", "sh", "-c", script])
    };
    assert_ne!(run("ro", "echo x >/data/file").code(), 0);
    assert_eq!(run("overlay", "echo x >/data/file; cat /data/file").ok().text(), "x\n");
    assert!(std::fs::read(&image).unwrap() == before, "the image changed");
}

#[test]
fn a_volume_over_etc_keeps_resolv_conf_and_the_host_name() {
    let Some(lab) = Lab::open() else { return };
    let image = lab.path("etc.ext4");
    disk::ext4(&image, 8);
    let volume = format!("{}:/etc", image.display());
    let script = "grep -c lost /proc/mounts; ls -d /etc/lost+found; cat /etc/resolv.conf; hostname";
    let run = lab.host_ctl(&[
        "run", "--name", "etcetera", "--volume", &volume, "--net", "user", "--", "sh", "-c", script,
    ]);
    let text = run.ok().text();
    assert!(text.contains("/etc/lost+found"), "{text}");
    assert!(text.contains("nameserver 10.0.2.3"), "{text}");
    assert!(text.ends_with("etcetera\n"), "{text}");
}

#[test]
fn volumes_inside_volumes_are_mounted_in_order() {
    let Some(lab) = Lab::open() else { return };
    let (outer, inner) = (lab.path("outer.ext4"), lab.path("inner.ext4"));
    disk::ext4(&outer, 8);
    disk::ext4(&inner, 8);
    let inner = format!("{}:/data/inner", inner.display());
    let outer = format!("{}:/data", outer.display());
    let script = "awk '$2 ~ /^.data/ {print $2}' /proc/mounts";
    let run =
        lab.host_ctl(&["run", "--rm", "--volume", &inner, "--volume", &outer, "--", "sh", "-c", script]);
    assert_eq!(run.ok().text(), "/data\n/data/inner\n");
}
