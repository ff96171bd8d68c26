//! What is shown, from records.

use firstlight_protocol::boot_spec::Mode;
use firstlight_protocol::lifecycle::VmmStatus;

use super::*;
use crate::vm::spec::tests::spec;
use crate::vm::{Entry, ProcessId, Record};

const MS: u64 = 1_000_000;
const BOOT: BootId = BootId([1, 2, 3, 4]);
const VMM: ProcessId = ProcessId { pid: 42, start_time: 7 };

/// A record `at` ms after the host's start.
fn record(at: u64, entry: Entry) -> Record {
    Record { at: Stamp { wall_ns: 0, boot_ns: at * MS }, entry }
}

/// An event that happens `t` ms after the guest's start and is heard `at` ms after the host's.
fn event(at: u64, seq: u64, t: u64, event: Event) -> Record {
    let sentinel = Sentinel { boot: BOOT, seq, t: t * MS, event };
    record(at, Entry::Event { sentinel, source: Source::Vsock })
}

/// A boot to Running: the guest's clock starts 300 ms after the VM was made.
fn booted() -> Vec<Record> {
    let stage = |stage: &str, dur| Event::StageDone {
        stage: stage.into(),
        dur: dur * MS,
        thread: None,
        index: None,
        needs: Vec::new(),
        skipped: None,
    };
    vec![
        record(1_000, Entry::Created),
        record(1_010, Entry::BootStarted { boot_id: BOOT, host_boot: "h".into() }),
        record(1_020, Entry::VmmStarted { process: VMM, vsock: None }),
        event(1_400, 1, 100, Event::InitStart),
        // Heard late, as after a monitor's death.
        event(9_000, 2, 150, stage("root", 40)),
        event(1_502, 3, 200, Event::AgentReady),
        event(1_530, 4, 230, Event::ProgramStart { mode: Mode::Exec, pid: 80 }),
    ]
}

fn view(records: &[Record], liveness: Liveness) -> VmView {
    VmView::new(&spec("web"), &Fold::of(records), liveness)
}

#[test]
fn a_booted_vm_is_running_with_its_boot_timed_on_one_clock() {
    let view = view(&booted(), Liveness::Alive);
    assert_eq!((view.state, view.pid), (State::Running, Some(42)));
    let timings = view.timings;
    assert_eq!(timings.vmm_started, Some(20.0));
    assert_eq!(timings.init_start, Some(400.0));
    assert_eq!(timings.agent_ready, Some(500.0));
    assert_eq!(timings.program_start, Some(530.0));
    assert_eq!(timings.running, Some(530.0));
    let stage = &timings.stages[0];
    assert_eq!((stage.start, stage.done, stage.dur), (410.0, 450.0, 40.0));
}

#[test]
fn the_document_has_the_fields_others_build_on() {
    let document = serde_json::to_value(view(&booted(), Liveness::Alive)).unwrap();
    assert_eq!(document["state"], "running");
    assert_eq!(document["boot_id"], "01020304");
    assert_eq!(document["exit"], serde_json::Value::Null);
    assert_eq!(document["events"][1]["event"], "STAGE-DONE");
    assert_eq!(document["events"][1]["stage"], "root");
    assert_eq!(document["events"][3]["seq"], 4);
    assert_eq!(document["timings"]["running"], 530.0);
}

#[test]
fn an_event_heard_twice_or_of_another_boot_changes_nothing() {
    let mut records = booted();
    let before = view(&records, Liveness::Alive).events;
    records.push(event(1_600, 4, 230, Event::PowerOff));
    let Entry::Event { sentinel, .. } = event(1_700, 5, 300, Event::PowerOff).entry else { unreachable!() };
    let stale = Sentinel { boot: BootId([9; 4]), ..sentinel };
    records.push(record(1_700, Entry::Event { sentinel: stale, source: Source::Serial }));
    assert_eq!(view(&records, Liveness::Alive).events, before);
}

#[test]
fn a_vmm_that_is_gone_takes_its_pid_with_it_and_says_how() {
    let mut records = booted();
    records.push(record(2_000, Entry::VmmExited { status: "killed by signal 9".into() }));
    let view = view(&records, Liveness::Gone);
    assert_eq!(view.pid, None);
    let failure = view.failure.unwrap();
    assert_eq!(failure.stage, "program");
    assert!(failure.reason.contains("the VMM ended") && failure.reason.contains("signal 9"), "{failure:?}");
}

#[test]
fn a_new_boot_forgets_the_old_one() {
    let mut records = booted();
    records.push(record(2_000, Entry::Killed));
    records.push(record(2_001, Entry::VmmExited { status: "killed".into() }));
    assert_eq!(view(&records, Liveness::Gone).state, State::Stopped);
    records.push(record(5_000, Entry::BootStarted { boot_id: BootId([5; 4]), host_boot: "h".into() }));
    let view = view(&records, Liveness::Alive);
    assert_eq!((view.state, view.boots, view.events.len()), (State::Initializing, 2, 0));
}

#[test]
fn what_cannot_be_looked_at_is_unknown() {
    let fold = Fold::of(&booted());
    assert_eq!(fold.vmm_status(Liveness::Unknown), VmmStatus::Unknown);
    assert_eq!(view(&booted(), Liveness::Unknown).state, State::Unknown);
}

#[test]
fn a_boot_that_never_got_a_vmm_is_failed() {
    let mut records = booted()[..2].to_vec();
    assert_eq!(view(&records, Liveness::Gone).state.name(), "failed");
    records.push(record(1_100, Entry::StartFailed { reason: "no kernel".into() }));
    let failure = view(&records, Liveness::Gone).failure.unwrap();
    assert_eq!((failure.stage.as_str(), failure.reason.as_str()), ("vmm", "no kernel"));
}

#[test]
fn headers_stand_as_this_boot_s_events_say_and_not_at_all_without_a_bundle() {
    use firstlight_protocol::headers::State as Standing;

    let mut with = spec("web");
    with.headers = Some(crate::vm::spec::HeadersSpec { bundle: "/h.tar.gz".into(), mask_others: false });
    let seen = |records: &[Record]| VmView::new(&with, &Fold::of(records), Liveness::Alive).headers.unwrap();
    let mut records = booted();
    assert_eq!(view(&records, Liveness::Alive).headers, None);
    assert_eq!(seen(&records).state, Standing::Pending);
    records.push(event(1_600, 5, 240, Event::HeadersStart));
    assert_eq!(seen(&records).state, Standing::Running);
    let error = "no room".to_owned();
    records.push(event(1_700, 6, 300, Event::HeadersFailed { error: error.clone() }));
    let headers = seen(&records);
    assert_eq!((headers.state, headers.reason, headers.took_ms), (Standing::Failed, Some(error), Some(60.0)));
    assert_eq!(view(&records, Liveness::Alive).state, State::Running);
}
