//! Private clones: VMs that see a snapshot's memory itself and keep what they change, and those that wait before they move.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use firstlight_host_ctl::snapshot::Seal;
use firstlight_tests::pool::Served;
use firstlight_tests::{Lab, Vm, disk, host_process};

const SERIAL: [&str; 4] = ["--transport", "serial", "--snapshot", "--"];

/// A snapshot `saved` of a VM `golden` that has a file.
fn template(lab: &Lab) -> Vm<'_> {
    let golden = lab.start("golden", &[&SERIAL[..], &["sleep", "1000"]].concat());
    let _ = golden.sh("echo kept >/tmp/file");
    let _ = lab.host_ctl(&["snapshot", "golden", "saved"]).ok();
    golden
}

fn memory(lab: &Lab) -> PathBuf {
    lab.state_dir().join("snapshots/saved/memory")
}

fn clone<'lab>(lab: &'lab Lab, name: &str, flags: &[&str]) -> Vm<'lab> {
    let _ = lab.host_ctl(&[&["restore", "saved", "--private", "--name", name][..], flags].concat()).ok();
    lab.vm(name)
}

fn contents(vm: &Vm<'_>) -> String {
    vm.sh("cat /tmp/file")
}

#[test]
fn what_a_clone_changes_is_its_own_and_the_template_stays_as_it_is() {
    let Some(lab) = Lab::open() else { return };
    let golden = template(&lab);
    let before = Seal::of(&memory(&lab)).unwrap();
    assert_eq!(fs::metadata(memory(&lab)).unwrap().permissions().mode() & 0o222, 0, "it can be written to");
    let (one, two) = (clone(&lab, "one", &[]), clone(&lab, "two", &[]));
    let _ = one.sh("echo changed >/tmp/file; dd if=/dev/urandom of=/tmp/more bs=1M count=16 2>/dev/null");
    assert_eq!([contents(&one), contents(&two), contents(&golden)], ["changed\n", "kept\n", "kept\n"]);
    assert_eq!(Seal::of(&memory(&lab)).unwrap(), before);
    // Who they are is their own as well.
    let boot = |vm: &Vm<'_>| vm.inspect()["boot_id"].as_str().unwrap().to_owned();
    assert!(boot(&one) != boot(&two) && boot(&one) != boot(&golden));
    assert_eq!(one.sh("hostname"), "one\n");
    assert_ne!(one.sh("cat /etc/machine-id"), two.sh("cat /etc/machine-id"));
    // The memory that they have not touched yet is there for them without the snapshot.
    let _ = lab.host_ctl(&["snapshots", "rm", "saved"]).ok();
    assert_eq!(two.sh("md5sum /bin/busybox | cut -c1-32"), golden.sh("md5sum /bin/busybox | cut -c1-32"));
}

#[test]
fn a_clone_that_waits_is_told_who_it_is_when_it_goes_on() {
    let Some(lab) = Lab::open() else { return };
    let _golden = template(&lab);
    let waiting = clone(&lab, "waiting", &["--paused"]);
    assert_eq!((waiting.state(), waiting.events()), ("paused".into(), Vec::new()));
    // Whoever takes over holds it still as well.
    host_process::kill(host_process::monitor_of(&waiting.dir()).expect("a monitor"));
    let refused = lab.host_ctl(&["exec", "waiting", "--", "true"]);
    assert!(refused.stderr.contains("paused") && refused.stderr.contains("resume"), "{}", refused.stderr);
    assert_eq!((waiting.state(), waiting.events()), ("paused".into(), Vec::new()));
    let _ = lab.host_ctl(&["resume", "waiting"]).ok();
    assert_eq!(waiting.state(), "running");
    assert_eq!(waiting.events(), ["RESTORED", "AGENT-READY", "PROGRAM-START"]);
    assert_eq!((contents(&waiting), waiting.sh("hostname")), ("kept\n".into(), "waiting\n".into()));
    // It is paused and resumed like any other from then on.
    let _ = lab.host_ctl(&["pause", "waiting"]).ok();
    let _ = lab.host_ctl(&["resume", "waiting"]).ok();
    assert_eq!(contents(&waiting), "kept\n");
}

#[test]
fn a_copy_that_waits_behind_a_vsock_goes_on_too() {
    let Some(lab) = Lab::open() else { return };
    let vm = lab.start("golden", &["--transport", "vsock", "--snapshot", "--", "sleep", "1000"]);
    let _ = vm.sh("echo kept >/tmp/file");
    let _ = lab.host_ctl(&["snapshot", "golden", "saved"]).ok();
    let _ = lab.host_ctl(&["restore", "saved", "--paused", "--name", "waiting"]).ok();
    let waiting = lab.vm("waiting");
    assert_eq!(waiting.state(), "paused");
    host_process::kill(host_process::monitor_of(&waiting.dir()).expect("a monitor"));
    let _ = lab.host_ctl(&["resume", "waiting"]).ok();
    assert_eq!(contents(&waiting), "kept\n");
    // Its memory cannot be mapped, because the vsock's backend has to share it.
    let refused = lab.host_ctl(&["restore", "saved", "--private", "--name", "private"]);
    assert_eq!(refused.code(), 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("--transport serial"), "{}", refused.stderr);
    assert!(!lab.host_ctl(&["ps", "-a", "-q"]).text().contains("private"));
}

#[test]
fn a_clone_cannot_be_saved_until_it_was_booted_anew() {
    let Some(lab) = Lab::open() else { return };
    let _golden = template(&lab);
    let vm = clone(&lab, "clone", &[]);
    let refused = lab.host_ctl(&["snapshot", "clone", "again"]);
    assert_ne!(refused.code(), 0);
    assert!(
        refused.stderr.contains("private mapping") && refused.stderr.contains("--private"),
        "{}",
        refused.stderr
    );
    vm.stop();
    let _ = lab.host_ctl(&["start", "clone"]).ok();
    vm.wait("running");
    let _ = lab.host_ctl(&["snapshot", "clone", "again"]).ok();
}

#[test]
fn a_template_that_was_written_to_makes_no_clone() {
    let Some(lab) = Lab::open() else { return };
    let _golden = template(&lab);
    disk::flip_middle_byte(&memory(&lab));
    let refused = lab.host_ctl(&["restore", "saved", "--private", "--name", "clone"]);
    assert!(
        refused.stderr.contains("\"saved\" is damaged") && refused.stderr.contains("memory"),
        "{}",
        refused.stderr
    );
    assert!(!lab.host_ctl(&["ps", "-a", "-q"]).text().contains("clone"));
}

#[test]
fn vms_of_a_pool_wait_as_clones_and_move_when_somebody_gets_them() {
    let Some(lab) = Lab::open() else { return };
    let flags = ["--min", "1", "--max", "1", "--transport", "serial", "--standby", "paused"];
    let mut pool = Served::start(&lab, "still", &flags);
    let (name, _) = pool.acquire("10m");
    let _ = lab.vm(&name).sh("echo left >/root/left");
    pool.release(&name);
    pool.wait_ready(1);
    let vm = lab.vm(&name);
    assert_eq!(vm.state(), "paused");
    assert_eq!(pool.status()["ways"]["counts"]["clone"], 1);
    // It waits for whoever serves the pool next.
    pool.child.kill().unwrap();
    pool.child.wait().unwrap();
    let pool = Served::start(&lab, "still", &flags);
    assert_eq!(pool.acquire("10m").0, name);
    assert_eq!(vm.events()[0], "RESTORED");
    assert_eq!(
        vm.sh("cat /root/left 2>&1; hostname"),
        format!("cat: can't open '/root/left': No such file or directory\n{name}\n")
    );
    pool.drain();
}

#[test]
fn a_reset_boots_where_the_golden_snapshot_no_longer_fits_the_host() {
    let Some(lab) = Lab::open() else { return };
    let kernel = lab.path("vmlinuz");
    let spec = lab.host_ctl(&["run", "--dry-run"]).ok().json();
    fs::copy(spec["assets"]["kernel"].as_str().unwrap(), &kernel).unwrap();
    let flags = ["--min", "1", "--max", "1", "--kernel", &kernel.display().to_string()];
    let pool = Served::start(&lab, "moved", &flags);
    let (name, _) = pool.acquire("10m");
    // As an upgrade does.
    File::options().write(true).open(&kernel).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    pool.release(&name);
    let (again, _) = pool.acquire("10m");
    assert_eq!((again.as_str(), lab.vm(&again).events()[0].as_str()), (name.as_str(), "INIT-START"));
    let status = pool.status();
    assert_eq!((&status["counts"]["reset_failed"], &status["ways"]["fell_back"]), (&0.into(), &1.into()));
    // What was booted was saved in its place.
    pool.release(&again);
    let (again, _) = pool.acquire("10m");
    assert_eq!(lab.vm(&again).events()[0], "RESTORED");
    pool.drain();
}
