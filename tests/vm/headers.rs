//! Kernel headers: installed beside the program, whole or not at all, and never in anybody's way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use firstlight_tests::{Lab, Vm, disk, let_pass};

/// The instants at which the power is cut, spread over an installation.
const INSTANTS: u32 = 5;

/// The release of the kernel that VMs of this lab run: the name of its modules' directory.
#[track_caller]
fn release(lab: &Lab) -> String {
    let spec = lab.host_ctl(&["run", "--dry-run", "--", "true"]).ok().json();
    let modules = PathBuf::from(spec["assets"]["modules"].as_str().unwrap());
    modules.file_name().unwrap().to_str().unwrap().to_owned()
}

/// A bundle for kernel `release` with `files` small files, made from a build tree that holds no more than it must.
#[track_caller]
fn bundle(lab: &Lab, name: &str, release: &str, files: u32) -> PathBuf {
    let tree = lab.path(&format!("{name}.tree"));
    fs::create_dir_all(tree.join("include/generated")).unwrap();
    fs::write(tree.join("Makefile"), "all:\n").unwrap();
    fs::write(tree.join(".config"), "CONFIG_X86_64=y\n").unwrap();
    let define = format!("#define UTS_RELEASE \"{release}\"\n");
    fs::write(tree.join("include/generated/utsrelease.h"), define).unwrap();
    for number in 0..files {
        // Of no pattern that could be compressed away.
        let text: Vec<String> = (0..400_u32).map(|line| (line * line * (number + 7)).to_string()).collect();
        fs::write(tree.join(format!("include/h{number}.h")), text.join("\n")).unwrap();
    }
    let file = lab.path(&format!("{name}.tar.gz"));
    let (from, to) = (tree.to_str().unwrap(), file.to_str().unwrap());
    let _ = lab.host_ctl(&["headers", "bundle", "--from", from, "-o", to]).ok();
    file
}

/// Two disks for what an installation writes, to be mounted where it does.
struct Disks([String; 4]);

impl Disks {
    #[track_caller]
    fn new(lab: &Lab, name: &str, mib: u64) -> Disks {
        let volume = |place: &str, target: &str| {
            let image = lab.path(&format!("{name}-{place}.ext4"));
            disk::ext4(&image, mib);
            format!("{}:{target}", image.display())
        };
        let (sources, modules) = (volume("sources", "/usr/src"), volume("modules", "/lib/modules"));
        Disks(["--volume".into(), sources, "--volume".into(), modules])
    }

    fn flags(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    /// What a VM without a bundle finds of headers on the disks: the sum of all files, or nothing.
    #[track_caller]
    fn found(&self, lab: &Lab) -> String {
        let script = "cd /lib/modules/$(uname -r)/build/ 2>/dev/null || { echo none; exit; }
            find . -type f | sort | xargs cat | md5sum";
        let args = [&["run", "--rm"][..], &self.flags(), &["--", "sh", "-c", script]].concat();
        lab.host_ctl(&args).ok().text()
    }
}

#[track_caller]
fn start<'lab>(lab: &'lab Lab, name: &str, bundle: &Path, flags: &[&str]) -> Vm<'lab> {
    let args = [&["--headers", bundle.to_str().unwrap()][..], flags, &["--", "sleep", "1000"]].concat();
    lab.start(name, &args)
}

/// Waits for the end of an installation, whatever it is, and gives what `inspect` says of it.
#[track_caller]
fn outcome(vm: &Vm<'_>) -> serde_json::Value {
    let mut events = vm.follow_events();
    loop {
        let line = events.line();
        let ends = ["HEADERS-READY", "HEADERS-SKIPPED", "HEADERS-FAILED"];
        if ends.iter().any(|end| line.contains(end)) {
            return vm.inspect()["headers"].clone();
        }
    }
}

#[test]
fn headers_are_installed_beside_the_program_and_nothing_waits_for_them() {
    let Some(lab) = Lab::open() else { return };
    let release = release(&lab);
    let bundle = bundle(&lab, "whole", &release, 300);
    let vm = start(&lab, "with", &bundle, &[]);
    vm.wait("headers");
    let events = vm.events();
    let at =
        |name: &str| events.iter().position(|event| event == name).unwrap_or_else(|| panic!("no {name}"));
    // All that Running needs was said before the worker was even started.
    assert!(
        at("PROGRAM-START") < at("HEADERS-START") && at("AGENT-READY") < at("HEADERS-START"),
        "{events:?}"
    );
    assert!(at("HEADERS-START") < at("HEADERS-READY"), "{events:?}");
    assert_eq!(vm.inspect()["headers"]["state"], "ready");
    assert!(vm.sh("cat /run/firstlight/headers.status").starts_with("{\"state\":\"ready\""));
    assert_eq!(vm.sh("ls /lib/modules/$(uname -r)/build/include | grep -c '^h'"), "300\n");
    assert_eq!(vm.sh("ls -A /usr/src | wc -l"), "1\n");
    let metrics = lab.host_ctl(&["metrics"]).ok().text();
    assert!(metrics.contains("firstlight_headers_total{outcome=\"ready\"} 1"), "{metrics}");
}

#[test]
fn the_worker_gives_way_to_everything_and_is_missed_by_nobody_when_it_is_killed() {
    // The pattern does not match itself. Source of the fields: proc_pid_stat(5), nice and policy.
    const LOOK_AND_KILL: &str = "for process in /proc/[0-9]*; do
            grep -q 'headers-worke[r]' $process/cmdline 2>/dev/null || continue
            cut -d' ' -f19,41 $process/stat; cat $process/cgroup $process/oom_score_adj; kill -9 ${process#/proc/}
        done";
    let Some(lab) = Lab::open() else { return };
    let bundle = bundle(&lab, "long", &release(&lab), 2500);
    let vm = start(&lab, "killed", &bundle, &["--memory", "512M"]);
    vm.follow_events().until("HEADERS-START");
    // Policy 5 is SCHED_IDLE.
    assert_eq!(vm.sh(LOOK_AND_KILL), "19 5\n0::/firstlight-headers\n1000\n");
    let headers = outcome(&vm);
    assert_eq!(headers["reason"], "the worker ended without a result (signal 9)");
    assert!(vm.sh("cat /run/firstlight/headers.status").contains("signal 9"));
    assert_eq!(vm.state(), "running");
}

#[test]
fn headers_that_are_installed_already_are_recognized_and_nothing_is_written() {
    let Some(lab) = Lab::open() else { return };
    let bundle = bundle(&lab, "known", &release(&lab), 100);
    let disks = Disks::new(&lab, "known", 32);
    let vm = start(&lab, "again", &bundle, &disks.flags());
    assert_eq!(outcome(&vm)["state"], "ready");
    let identity = "stat -c '%i %Z' /lib/modules/*/build/include/h7.h /lib/modules/*/build /usr/src/*";
    let before = vm.sh(identity);
    vm.stop();
    let _ = lab.host_ctl(&["start", "again"]).ok();
    vm.wait("running");
    let headers = outcome(&vm);
    assert_eq!((&headers["state"], &headers["reason"]), (&"skipped".into(), &"installed already".into()));
    assert_eq!(vm.sh(identity), before);
    vm.wait("headers");
}

#[test]
fn a_bad_bundle_is_named_and_the_vm_runs_on() {
    let Some(lab) = Lab::open() else { return };
    let release = release(&lab);
    let good = bundle(&lab, "good", &release, 300);
    let other = bundle(&lab, "other", "5.10.0-other", 3);
    let damaged = lab.path("damaged.tar.gz");
    let mut bytes = fs::read(&good).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    fs::write(&damaged, bytes).unwrap();
    let small = Disks::new(&lab, "small", 1);
    for (name, bundle, flags, reason) in [
        ("other", &other, vec![], "the bundle is for kernel 5.10.0-other"),
        ("damaged", &damaged, vec![], "not a whole headers bundle"),
        ("large", &good, small.flags(), "no room"),
    ] {
        let vm = start(&lab, name, bundle, &flags);
        let headers = outcome(&vm);
        assert_eq!(headers["state"], "failed", "{name}");
        assert!(headers["reason"].as_str().unwrap().contains(reason), "{name}: {headers}");
        assert_eq!(vm.state(), "running", "{name}");
        // Without a timeout: only failing at once ends this command.
        let waited = lab.host_ctl(&["wait", name, "--for", "headers"]);
        assert_eq!(waited.code(), 4, "{}", waited.stderr);
        assert!(waited.stderr.contains(reason), "{}", waited.stderr);
        assert_eq!(
            vm.sh("ls -A /usr/src 2>/dev/null | grep firstlight; ls /lib/modules/*/build 2>/dev/null; true"),
            ""
        );
        vm.remove();
    }
}

#[test]
fn a_file_that_is_no_whole_bundle_is_refused_before_a_vm_is_made() {
    let Some(lab) = Lab::open() else { return };
    let whole = bundle(&lab, "whole", "6.1.0", 3);
    let cut = lab.path("cut.tar.gz");
    let bytes = fs::read(whole).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    for (file, reason) in [(cut.as_path(), "it has"), (Path::new("/bin/sh"), "not compressed")] {
        let run = lab.host_ctl(&["run", "--headers", file.to_str().unwrap(), "--", "true"]);
        assert_eq!(run.code(), 125, "{}", run.stderr);
        assert!(
            run.stderr.contains(reason) && run.stderr.contains("host-ctl headers bundle"),
            "{}",
            run.stderr
        );
        assert_eq!(lab.host_ctl(&["ps", "-a", "-q"]).ok().text(), "");
    }
}

#[test]
fn other_kernels_are_left_alone_and_hidden_only_on_request() {
    let Some(lab) = Lab::open() else { return };
    let bundle = bundle(&lab, "mask", &release(&lab), 3);
    let disks = Disks::new(&lab, "mask", 8);
    let make = "mkdir -p /lib/modules/5.10.0-other/kernel && echo mine >/lib/modules/5.10.0-other/kernel/x.ko && sync";
    let args = [&["run", "--rm"][..], &disks.flags(), &["--", "sh", "-c", make]].concat();
    let _ = lab.host_ctl(&args).ok();
    let look = "ls -A /lib/modules/5.10.0-other; ls -d /lib/modules/$(uname -r)/build";
    for (name, flag, seen) in [("masked", Some("--headers-mask-others"), ""), ("plain", None, "kernel\n")] {
        let flags: Vec<&str> = disks.flags().into_iter().chain(flag).collect();
        let vm = start(&lab, name, &bundle, &flags);
        vm.wait("headers");
        let text = vm.sh(look);
        assert!(text.starts_with(seen) && text.lines().count() == 1 + seen.lines().count(), "{name}: {text}");
        vm.stop();
        vm.remove();
    }
    let see = "cat /lib/modules/5.10.0-other/kernel/x.ko";
    let args = [&["run", "--rm"][..], &disks.flags(), &["--", "sh", "-c", see]].concat();
    assert_eq!(lab.host_ctl(&args).ok().text(), "mine\n");
}

#[test]
fn a_power_cut_at_any_instant_of_an_installation_leaves_no_headers_or_all_of_them() {
    let Some(lab) = Lab::open() else { return };
    let bundle = bundle(&lab, "cut", &release(&lab), 400);
    let undisturbed = Disks::new(&lab, "undisturbed", 32);
    let vm = start(&lab, "undisturbed", &bundle, &undisturbed.flags());
    let running = Instant::now();
    assert_eq!(outcome(&vm)["state"], "ready");
    let whole = running.elapsed();
    // Cut as well: what is ready is on disk.
    vm.remove();
    let expected = undisturbed.found(&lab);
    assert_ne!(expected, "none\n");
    for instant in 0..INSTANTS {
        let name = format!("cut-{instant}");
        let disks = Disks::new(&lab, &name, 32);
        let vm = start(&lab, &name, &bundle, &disks.flags());
        let_pass(whole * instant / INSTANTS);
        let _ = lab.host_ctl(&["kill", &name]).ok();
        vm.wait("stopped");
        let found = disks.found(&lab);
        assert!(found == "none\n" || found == expected, "cut {instant} of {INSTANTS}: {found}");
        let _ = lab.host_ctl(&["start", &name]).ok();
        vm.wait("headers");
        vm.stop();
        vm.remove();
        assert_eq!(disks.found(&lab), expected, "after cut {instant} of {INSTANTS}");
    }
}

/// Slow: a compiler under emulation.
#[test]
fn slow_a_module_built_against_the_installed_headers_is_loaded() {
    const BUILD: &str = r#"set -e
mkdir /tmp/module
cd /tmp/module
cat >proof.c <<'SOURCE'
#include <linux/module.h>
static int __init proof_init(void) { pr_info("firstlight: module proof\n"); return 0; }
static void __exit proof_exit(void) { }
module_init(proof_init);
module_exit(proof_exit);
MODULE_LICENSE("GPL");
SOURCE
echo 'obj-m := proof.o' >Makefile
make -C "/lib/modules/$(uname -r)/build" M="$PWD" modules >&2
insmod proof.ko
cut -d' ' -f1 /proc/modules | grep '^proof$'"#;
    let Some(lab) = Lab::open() else { return };
    let root = disk::debian_with_compiler();
    let bundle = lab.path("debian.tar.gz");
    let packages = disk::headers_packages();
    let from: Vec<&str> = packages.iter().map(|package| package.to_str().unwrap()).collect();
    let args = [&["headers", "bundle", "-o", bundle.to_str().unwrap(), "--from"][..], &from].concat();
    let _ = lab.host_ctl(&args).ok();
    // What any tar can read, anybody can look into.
    let listed = Command::new("tar").arg("-tzf").arg(&bundle).output().unwrap();
    assert!(listed.status.success() && listed.stdout.starts_with(b"manifest.json\n"));
    let vm = start(&lab, "proof", &bundle, &["--rootfs", root.to_str().unwrap(), "--memory", "1G"]);
    vm.wait("headers");
    assert_eq!(vm.sh(BUILD), "proof\n");
}
