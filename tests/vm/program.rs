//! The program's exit code, signal, user, environment, limits and orphans.

use firstlight_tests::Lab;

#[test]
fn the_program_s_exit_code_is_run_s() {
    let Some(lab) = Lab::open() else { return };
    for code in [0, 1, 42, 255] {
        let run = lab.host_ctl(&["run", "--rm", "--", "sh", "-c", &format!("exit {code}")]);
        assert_eq!(run.code(), code, "{}", run.stderr);
    }
}

#[test]
fn the_program_s_signal_is_run_s_code_over_128() {
    let Some(lab) = Lab::open() else { return };
    let run = lab.host_ctl(&["run", "--name", "shot", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(run.code(), 128 + 9, "{}", run.stderr);
    assert_eq!(lab.vm("shot").inspect()["exit"]["signal"], 9);
}

#[test]
fn the_two_output_streams_stay_apart() {
    let Some(lab) = Lab::open() else { return };
    let run = lab.host_ctl(&["run", "--rm", "--", "sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!(run.text(), "out\n");
    assert!(run.stderr.lines().any(|line| line == "err"), "{}", run.stderr);
}

#[test]
fn no_byte_of_a_large_output_is_lost() {
    let Some(lab) = Lab::open() else { return };
    let bytes = 32 << 20;
    let script = format!("head -c {bytes} /dev/zero | tr '\\0' x; printf end");
    let run = lab.host_ctl(&["run", "--rm", "--", "sh", "-c", &script]).ok();
    assert_eq!(run.stdout.len(), bytes + 3);
    assert!(run.stdout.ends_with(b"xend"));
}

#[test]
fn user_directory_environment_and_arguments_reach_the_program() {
    let Some(lab) = Lab::open() else { return };
    let script = "id -u; id -g; pwd; echo \"$GREETING\"; echo \"$1\"";
    let args = ["run", "--rm", "-u", "1234:5678", "-w", "/tmp", "-e", "GREETING=two words"];
    let argv = ["--", "sh", "-c", script, "sh", "an argument"];
    let run = lab.host_ctl(&[&args[..], &argv[..]].concat()).ok();
    assert_eq!(run.text(), "1234\n5678\n/tmp\ntwo words\nan argument\n");
}

#[test]
fn ten_thousand_orphans_leave_no_zombie() {
    let Some(lab) = Lab::open() else { return };
    let script = "i=0; while [ $i -lt 100 ]; do sh -c 'j=0; while [ $j -lt 100 ]; do : & j=$((j+1)); done'; \
                  i=$((i+1)); done; echo made; sleep 1000";
    let vm = lab.start("orphans", &["--", "sh", "-c", script]);
    let mut logs = vm.follow_logs();
    assert_eq!(logs.line(), "made");
    // The last orphans may end while we look: what has to hold is that none stays.
    let count = "for i in 1 2 3 4 5 6 7 8 9 10; do z=$(grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l); \
                 [ $z = 0 ] && break; sleep 1; done; echo $z";
    assert_eq!(vm.sh(count), "0\n");
    let created: u64 = vm.sh("awk '/^processes/ {print $2}' /proc/stat").trim().parse().unwrap();
    assert!(created > 10_000, "only {created} processes were ever made");
}

#[test]
fn a_program_killed_for_memory_says_so() {
    let Some(lab) = Lab::open() else { return };
    let args = ["run", "--name", "hungry", "--memory", "192M", "--", "sh", "-c"];
    let run = lab.host_ctl(&[&args[..], &["tail /dev/zero"]].concat());
    assert_ne!(run.code(), 0);
    assert_eq!(lab.vm("hungry").inspect()["oom"], true, "{}", run.stderr);
}

#[test]
fn pivot_root_works_for_nested_containers() {
    let Some(lab) = Lab::open() else { return };
    let inner = "mount -t tmpfs t /mnt && cd /mnt && mkdir old && pivot_root . old && /old/bin/busybox ls /";
    let run = lab.host_ctl(&["run", "--rm", "--", "unshare", "-m", "sh", "-c", inner]).ok();
    assert_eq!(run.text(), "old\n");
}
