//! Pools of real VMs: filled, handed out, reset, given up, killed.

use std::process::{Child, Command};

use firstlight_tests::lab::finish;
use firstlight_tests::pool::Served;
use firstlight_tests::{Lab, Vm, disk, host_process};

/// Leaves all kinds of things behind.
fn litter(vm: &Vm<'_>) {
    let script = "echo secret >/root/left && mkdir -p /mnt/left && mount -t tmpfs left /mnt/left \
                  && (nc -l -p 7777 </dev/null >/dev/null 2>&1 & sleep 1000 </dev/null >/dev/null 2>&1 &)";
    let _ = vm.sh(script);
    assert!(found(vm).contains("sleep 1000"));
}

/// What there is of a previous holder: files, mounts, processes, listeners.
fn found(vm: &Vm<'_>) -> String {
    vm.sh("cat /root/left 2>/dev/null; grep left /proc/mounts; ps -o args | grep -v grep | grep -E 'sleep 1000|7777'; \
           grep -i ':1e61' /proc/net/tcp /proc/net/tcp6; true")
}

#[test]
fn what_one_holder_leaves_the_next_does_not_find() {
    let Some(lab) = Lab::open() else { return };
    let pool = Served::start(&lab, "clean", &["--min", "1", "--max", "1"]);
    let (name, _) = pool.acquire("10m");
    litter(&lab.vm(&name));
    pool.release(&name);
    let (again, lease) = pool.acquire("10m");
    assert_eq!((again.as_str(), lease.as_str()), (name.as_str(), "1.2"), "uses survive a reset");
    let vm = lab.vm(&again);
    assert_eq!(found(&vm), "");
    assert_eq!(pool.status()["counts"]["reset"], 1);
    // From the golden snapshot, and yet the VM it is called.
    assert_eq!(vm.events()[0], "RESTORED");
    assert_eq!(vm.sh("hostname"), format!("{name}\n"));
    pool.drain();
}

#[test]
fn vms_that_cannot_be_saved_are_reset_by_a_boot() {
    let Some(lab) = Lab::open() else { return };
    let pool = Served::start(&lab, "micro", &["--min", "1", "--max", "1", "--machine", "microvm"]);
    let (name, _) = pool.acquire("10m");
    litter(&lab.vm(&name));
    pool.release(&name);
    let (again, _) = pool.acquire("10m");
    let vm = lab.vm(&again);
    assert_eq!(found(&vm), "");
    assert_eq!(vm.events()[0], "INIT-START");
    assert_eq!(pool.status()["counts"]["reset"], 1);
    pool.drain();
}

#[test]
fn a_golden_snapshot_that_is_damaged_is_named_and_costs_the_vm_and_nothing_else() {
    let Some(lab) = Lab::open() else { return };
    let pool = Served::start(&lab, "dented", &["--min", "1", "--max", "1"]);
    let (name, _) = pool.acquire("10m");
    litter(&lab.vm(&name));
    let memory = lab.state_dir().join("pools/dented/golden/dented-golden/memory");
    disk::flip_middle_byte(&memory);
    pool.release(&name);
    // The reset fails, the VM is destroyed, and another is made and handed out.
    let (other, _) = pool.acquire("10m");
    assert_ne!(other, name);
    assert_eq!(found(&lab.vm(&other)), "");
    let status = pool.status();
    assert_eq!((&status["counts"]["reset"], &status["counts"]["reset_failed"]), (&0.into(), &1.into()));
    let reason = status["last_failures"]["reset"].as_str().unwrap();
    assert!(reason.contains("\"dented-golden\" is damaged") && reason.contains("memory"), "{reason}");
    // The other VM was saved in the snapshot's place.
    pool.release(&other);
    let (again, _) = pool.acquire("10m");
    assert_eq!(lab.vm(&again).events()[0], "RESTORED");
    pool.drain();
}

#[test]
fn a_holder_that_goes_without_a_word_loses_its_vm_and_its_lease() {
    let Some(lab) = Lab::open() else { return };
    let pool = Served::start(&lab, "lost", &["--min", "1", "--max", "1"]);
    let (name, first) = pool.acquire("2s");
    litter(&lab.vm(&name));
    // The next in line gets it as soon as it was reset, with nothing done by the first.
    let (again, second) = pool.acquire("10m");
    assert_eq!(again, name);
    assert_ne!(first, second);
    assert_eq!(found(&lab.vm(&again)), "");
    let late = lab.host_ctl(&["pool", "release", "lost", &name, "--lease", &first]);
    assert_eq!(late.code(), 4, "{}", late.stderr);
    assert_eq!(pool.status()["phases"]["leased"], 1, "a lease that is over ended another");
    assert_eq!(pool.status()["counts"]["expired"], 1);
    pool.drain();
}

#[test]
fn fifty_who_ask_at_once_share_three_vms_and_no_two_have_the_same() {
    let Some(lab) = Lab::open() else { return };
    let pool = Served::start(&lab, "busy", &["--min", "3", "--max", "3", "--parallel", "3"]);
    pool.wait_ready(3);
    // Those who get none in time are refused, in time and by name; the others hold what they got.
    let ask = ["pool", "acquire", "busy", "--json", "--timeout", "5s", "--ttl", "10m"];
    let asked: Vec<Child> = (0..50).map(|_| lab.command(&ask).spawn().unwrap()).collect();
    let finished: Vec<_> = asked.into_iter().map(finish).collect();
    let mut vms: Vec<String> = finished
        .iter()
        .filter(|finished| finished.code() == 0)
        .map(|finished| finished.json()["vm"].as_str().unwrap().to_owned())
        .collect();
    vms.sort();
    assert_eq!(vms, ["busy-1", "busy-2", "busy-3"]);
    assert!(finished.iter().all(|finished| [0, 124].contains(&finished.code())));
    let status = pool.status();
    assert_eq!(
        (status["counts"]["granted"].as_u64(), status["counts"]["timed_out"].as_u64()),
        (Some(3), Some(47))
    );
    pool.drain();
}

#[test]
fn a_pool_killed_with_sigkill_is_taken_over_with_its_vms_and_leases() {
    let Some(lab) = Lab::open() else { return };
    let flags = ["--min", "1", "--max", "2", "--parallel", "2"];
    let mut first = Served::start(&lab, "again", &flags);
    let (held, lease) = first.acquire("10m");
    first.wait_ready(1);
    let before = lab.host_ctl(&["ps", "--json"]).ok().json();
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let second = Served::start(&lab, "again", &flags);
    second.wait_ready(1);
    let ids = |vms: &serde_json::Value| -> Vec<String> {
        vms.as_array().unwrap().iter().map(|vm| vm["id"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(ids(&before), ids(&lab.host_ctl(&["ps", "--json"]).ok().json()), "a VM was replaced");
    // The lease holds, and nobody else gets its VM.
    let renewed = lab.host_ctl(&["pool", "renew", "again", &held, "--lease", &lease]);
    assert_eq!(renewed.code(), 0, "{}", renewed.stderr);
    assert_ne!(second.acquire("10m").0, held);
    second.drain();
}

#[test]
fn a_pool_killed_while_it_makes_vms_leaks_none() {
    let Some(lab) = Lab::open() else { return };
    let flags = ["--min", "2", "--max", "2", "--parallel", "2"];
    let mut first = Served::start(&lab, "early", &flags);
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let second = Served::start(&lab, "early", &flags);
    second.wait_ready(2);
    assert_eq!(lab.host_ctl(&["ps", "-a", "-q"]).text().lines().count(), 2);
    second.drain();
}

#[test]
fn a_vm_that_died_while_it_was_ready_is_not_handed_out() {
    let Some(lab) = Lab::open() else { return };
    let pool = Served::start(&lab, "dead", &["--min", "1", "--max", "1"]);
    pool.wait_ready(1);
    let pid = lab.vm("dead-1").inspect()["pid"].as_u64().unwrap();
    host_process::kill(u32::try_from(pid).unwrap());
    assert_eq!(pool.acquire("10m").0, "dead-2");
    assert_eq!(pool.status()["counts"]["check_failed"], 1);
    pool.drain();
}

#[test]
fn a_first_signal_drains_the_pool() {
    let Some(lab) = Lab::open() else { return };
    let mut pool = Served::start(&lab, "term", &["--min", "1", "--max", "1", "--drain-timeout", "1s"]);
    let _held = pool.acquire("10m");
    let killed = Command::new("kill").arg(pool.child.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert!(pool.child.wait().unwrap().success());
    assert_eq!(lab.host_ctl(&["ps", "-a", "-q"]).text(), "");
}

#[test]
fn what_vms_of_a_pool_cannot_share_is_refused_before_any_is_made() {
    let Some(lab) = Lab::open() else { return };
    let image = lab.path("data.ext4");
    disk::ext4(&image, 8);
    let volume = format!("{}:/data", image.display());
    let refused = lab.host_ctl(&["pool", "serve", "shared", "--volume", &volume]);
    assert_eq!(refused.code(), 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("data.ext4") && refused.stderr.contains(":ro"), "{}", refused.stderr);
    assert!(!lab.state_dir().join("pools").exists());
}
