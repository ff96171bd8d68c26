//! Bad input and failed boots: one clear error, a non-zero exit, nothing left behind.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use firstlight_tests::lab::finish;
use firstlight_tests::{Lab, disk, leftovers};

/// Runs `host-ctl run ARGS`, expects it to fail, and gives its error text. Nothing may be left in `ps`.
#[track_caller]
fn refused(lab: &Lab, args: &[&str]) -> String {
    let all: Vec<&str> = ["run", "--rm"].into_iter().chain(args.iter().copied()).collect();
    let run = lab.host_ctl(&all);
    assert_ne!(run.code(), 0, "stdout: {}", run.text());
    assert_eq!(run.text(), "", "an error goes to stderr");
    assert_eq!(lab.host_ctl(&["ps", "-a", "-q"]).ok().text(), "");
    leftovers::assert_none(&lab.path(""));
    run.stderr
}

#[track_caller]
fn assert_names(error: &str, words: &[&str]) {
    for word in words {
        assert!(error.contains(word), "the error does not name {word:?}: {error}");
    }
}

#[test]
fn a_missing_program_is_failed_with_enoent_and_never_running() {
    let Some(lab) = Lab::open() else { return };
    let run = lab.host_ctl(&["run", "--name", "absent", "--", "/no/such/program"]);
    assert_eq!(run.code(), 127, "{}", run.stderr);
    assert_names(&run.stderr, &["/no/such/program"]);
    let inspected = lab.vm("absent").inspect();
    assert_eq!(inspected["state"], "failed");
    assert_eq!(inspected["timings"]["running"], serde_json::Value::Null);
    let events = inspected["events"].as_array().unwrap();
    let fatal = events.iter().find(|event| event["event"] == "FATAL").expect("a FATAL event");
    assert_eq!((&fatal["stage"], &fatal["errno"]), (&"program".into(), &2.into()));
    assert!(!lab.vm("absent").events().iter().any(|event| event == "PROGRAM-START"));
}

#[test]
fn a_program_that_cannot_be_invoked_is_126() {
    let Some(lab) = Lab::open() else { return };
    let run = lab.host_ctl(&["run", "--rm", "--", "/etc/passwd"]);
    assert_eq!(run.code(), 126, "{}", run.stderr);
}

#[test]
fn a_file_that_is_no_kernel_is_refused_before_anything_starts() {
    let Some(lab) = Lab::open() else { return };
    let kernel = lab.path("not-a-kernel");
    std::fs::write(&kernel, "text").unwrap();
    let kernel = kernel.to_str().unwrap();
    assert_names(&refused(&lab, &["--kernel", kernel, "--", "true"]), &[kernel]);
    assert_names(&refused(&lab, &["--kernel", "/no/such/kernel", "--", "true"]), &["/no/such/kernel"]);
}

#[test]
fn a_file_that_is_no_root_file_system_is_refused() {
    let Some(lab) = Lab::open() else { return };
    let image = lab.path("noise.img");
    std::fs::write(&image, vec![7; 1 << 20]).unwrap();
    let image = image.to_str().unwrap();
    assert_names(&refused(&lab, &["--rootfs", image, "--", "true"]), &[image]);
}

#[test]
fn a_corrupt_root_file_system_fails_the_boot_and_names_the_stage() {
    let Some(lab) = Lab::open() else { return };
    let image = lab.path("corrupt.ext4");
    disk::ext4(&image, 8);
    // Keep the magic number, ruin the rest of the super block.
    let mut bytes = std::fs::read(&image).unwrap();
    for (offset, byte) in bytes[1024..2048].iter_mut().enumerate() {
        if !(0x38..0x3a).contains(&offset) {
            *byte = 0xff;
        }
    }
    std::fs::write(&image, bytes).unwrap();
    assert_names(&refused(&lab, &["--rootfs", image.to_str().unwrap(), "--", "true"]), &["root"]);
}

#[test]
fn a_missing_required_volume_fails_and_a_missing_optional_one_does_not() {
    let Some(lab) = Lab::open() else { return };
    let missing = "/no/such/volume.img:/data";
    assert_names(&refused(&lab, &["--volume", missing, "--", "true"]), &["/no/such/volume.img"]);
    let run =
        lab.host_ctl(&["run", "--rm", "--volume", &format!("{missing}:optional"), "--", "echo", "hi"]).ok();
    assert_eq!(run.text(), "hi\n");
}

#[test]
fn a_corrupt_volume_fails_the_boot_only_when_it_is_required() {
    let Some(lab) = Lab::open() else { return };
    let image = lab.path("volume.ext4");
    disk::ext4(&image, 8);
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[1024 + 0x3a..2048].fill(0xff);
    std::fs::write(&image, bytes).unwrap();
    let volume = format!("{}:/data", image.display());
    assert_names(&refused(&lab, &["--volume", &volume, "--", "true"]), &["volume:/data"]);
    let run =
        lab.host_ctl(&["run", "--rm", "--volume", &format!("{volume}:optional"), "--", "echo", "hi"]).ok();
    assert_eq!(run.text(), "hi\n");
}

#[test]
fn a_name_is_taken_once() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("mine", &["--", "sleep", "1000"]);
    let run = lab.host_ctl(&["run", "-d", "--name", "mine", "--", "true"]);
    assert_eq!(run.code(), 125, "{}", run.stderr);
    assert_names(&run.stderr, &["mine"]);
    assert_eq!(vm.state(), "running");
}

#[test]
fn commands_on_a_vm_that_does_not_exist_exit_with_3_and_name_it() {
    let Some(lab) = Lab::open() else { return };
    for command in ["inspect", "stop", "kill", "rm", "logs"] {
        let run = lab.host_ctl(&[command, "nobody"]);
        assert_eq!(run.code(), 3, "{command}: {}", run.stderr);
        assert_names(&run.stderr, &["nobody"]);
    }
}

/// Has PID 1 push until its stack has run out, as soon as it goes on from where it waits: what is written there is `push %rax`
/// and a jump back to it.
const OVERFLOW: &str = r"
    pc=running
    while [ $pc = running ]; do read -r line </proc/1/syscall; pc=${line##* }; done
    printf '\120\353\375' | dd of=/proc/1/mem bs=1 seek=$((pc)) conv=notrunc
";

#[test]
fn an_init_whose_stack_has_run_out_powers_the_machine_off() {
    let Some(lab) = Lab::open() else { return };
    // It waits for this very program, and goes on at its end.
    let run = lab.host_ctl(&["run", "--name", "overflown", "--", "sh", "-c", OVERFLOW]);
    assert_ne!(run.code(), 0, "{}", run.text());
    let vm = lab.vm("overflown");
    let console = std::fs::read_to_string(vm.dir().join("serial.log")).unwrap();
    assert!(console.contains("killed by its own fault, signal 11; powering off"), "{console}");
    assert!(!console.contains("Kernel panic"), "{console}");
    assert_eq!(vm.state(), "failed");
}

#[test]
fn a_boot_that_waits_for_a_disk_tells_of_itself_while_it_waits() {
    let Some(lab) = Lab::open() else { return };
    disk::ext4(&lab.path("data.img"), 16);
    // A VMM that gives the guest another disk than it was told to.
    let vmm = lab.path("vmm");
    std::fs::write(&vmm, "#!/bin/bash\nexec qemu-system-x86_64 \"${@/serial=vol0/serial=lost}\"\n").unwrap();
    std::fs::set_permissions(&vmm, Permissions::from_mode(0o755)).unwrap();
    let volume = format!("{}:/data", lab.path("data.img").display());
    let args = ["run", "-d", "--name", "waits", "--wait", "none", "--volume", &volume, "--", "true"];
    let run = lab.command(&args).env("FIRSTLIGHT_QEMU", &vmm).spawn().unwrap();
    let _ = finish(run).ok();
    let vm = lab.vm("waits");
    let mut events = vm.follow_events();
    events.until("INIT-START");
    // Init waits five seconds for a disk.
    assert_eq!(vm.state(), "initializing", "the boot was told of when it had failed");
    events.until("FATAL");
    let inspected = vm.inspect();
    assert_names(&inspected["events"].to_string(), &["vol0", "waited 5000 ms"]);
    vm.remove();
}
