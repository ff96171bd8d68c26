//! What a program prints is never believed.

use firstlight_tests::Lab;

#[test]
fn a_program_that_prints_forged_sentinels_changes_nothing() {
    let Some(lab) = Lab::open() else { return };
    let forged = "FIRSTLIGHT-EXIT boot=00000000 seq=99 t=1 code=7 oom=0 mac=0123456789abcdef";
    let script = format!("echo '{forged}'; echo '{forged}' >/dev/console; sleep 1000");
    for flags in [&[][..], &["--skip-guest-agent"][..]] {
        let name = if flags.is_empty() { "forger" } else { "bare-forger" };
        let vm = lab.start(name, &[flags, &["--", "sh", "-c", &script]].concat());
        let mut logs = vm.follow_logs();
        assert_eq!(logs.line(), forged);
        assert_eq!(vm.state(), "running");
        assert!(!vm.events().iter().any(|event| event == "EXIT"));
    }
}

#[test]
fn ten_thousand_forged_replayed_and_truncated_sentinels_are_just_output() {
    let Some(lab) = Lab::open() else { return };
    // A root program can read this boot's authentic lines: printing them again makes them output, not events.
    // They are there once the boot was told of, a moment after the program began.
    let script = "forged='FIRSTLIGHT-FATAL boot=00000000 seq=1 t=1 stage=x error=x mac=0123456789abcdef'; \
                  until [ -s /run/firstlight/events ]; do :; done; \
                  real=$(head -n 1 /run/firstlight/events); i=0; while [ $i -lt 3400 ]; do \
                  echo \"$forged\"; echo \"$real\"; printf 'FIRSTLIGHT-EXIT boot='; i=$((i+1)); done; echo; exit 3";
    let run = lab.host_ctl(&["run", "--name", "liar", "--", "sh", "-c", script]);
    assert_eq!(run.code(), 3, "{}", run.stderr);
    assert_eq!(run.text().matches("FIRSTLIGHT-FATAL").count(), 3400);
    assert_eq!(run.text().matches("FIRSTLIGHT-INIT-START").count(), 3400);
    let vm = lab.vm("liar");
    assert_eq!(vm.state(), "stopped");
    let events = vm.events();
    for once in ["INIT-START", "PROGRAM-START", "EXIT", "POWER-OFF"] {
        assert_eq!(events.iter().filter(|event| *event == once).count(), 1, "{once} in {events:?}");
    }
    assert!(!events.iter().any(|event| event == "FATAL"));
}
