//! Every VMM status, with every set of facts, with and without an agent.

use super::*;

fn statuses() -> Vec<VmmStatus> {
    vec![
        VmmStatus::NotStarted,
        VmmStatus::StartFailed { reason: "no kernel".into() },
        VmmStatus::Active,
        VmmStatus::Paused,
        VmmStatus::Gone,
        VmmStatus::Unknown,
    ]
}

/// Every combination of the seven facts.
fn all_facts() -> impl Iterator<Item = BootFacts> {
    (0..1_u32 << 7).map(|bits| {
        let has = |bit: u32| bits & (1 << bit) != 0;
        BootFacts {
            agent_ready: has(0),
            program_started: has(1),
            exit: has(2).then_some(ExitStatus::Code(3)),
            failure: has(3).then(|| Failure { stage: "root".into(), reason: "bad".into() }),
            power_off: has(4),
            stop_requested: has(5),
            killed: has(6),
            last_stage: None,
        }
    })
}

fn every_case(mut check: impl FnMut(&VmmStatus, &BootFacts, bool, State)) {
    for vmm in statuses() {
        for facts in all_facts() {
            for skip in [false, true] {
                check(&vmm, &facts, skip, derive(&vmm, &facts, skip));
            }
        }
    }
}

#[test]
fn running_needs_the_program_and_the_agent_unless_waived_and_nothing_that_ends_it() {
    every_case(|vmm, facts, skip, state| {
        let ending = facts.exit.is_some() || facts.power_off || facts.stop_requested || facts.killed;
        let running = *vmm == VmmStatus::Active
            && facts.failure.is_none()
            && !ending
            && facts.program_started
            && (facts.agent_ready || skip);
        assert_eq!(state == State::Running, running, "{vmm:?} {facts:?} skip={skip}");
    });
}

#[test]
fn skipping_the_agent_changes_only_whether_agent_ready_is_waited_for() {
    every_case(|vmm, facts, _, state| {
        let waived = derive(vmm, facts, true);
        let with_agent = derive(vmm, &BootFacts { agent_ready: true, ..facts.clone() }, false);
        assert_eq!(waived, with_agent);
        if facts.agent_ready {
            assert_eq!(state, waived);
        }
    });
}

#[test]
fn final_states_are_those_without_a_vmm_or_with_a_failure() {
    every_case(|vmm, facts, _, state| {
        let expected = match vmm {
            VmmStatus::StartFailed { .. } | VmmStatus::Gone => true,
            VmmStatus::Active | VmmStatus::Paused => facts.failure.is_some(),
            VmmStatus::NotStarted | VmmStatus::Unknown => false,
        };
        assert_eq!(state.is_final(), expected, "{vmm:?} {facts:?} {state:?}");
    });
}

#[test]
fn what_cannot_be_seen_is_unknown_and_never_stopped() {
    every_case(|vmm, facts, _, state| {
        if *vmm == VmmStatus::Unknown {
            assert_eq!(state, State::Unknown, "{facts:?}");
        }
    });
}

#[test]
fn a_vmm_that_ends_unasked_is_failed_and_names_how_far_it_came() {
    let stage_of = |facts: BootFacts| {
        let state = derive(&VmmStatus::Gone, &facts, false);
        let State::Failed { stage, reason } = state else { panic!("{state:?}") };
        (stage, reason)
    };
    let booting = BootFacts { last_stage: Some("root".into()), ..BootFacts::default() };
    assert_eq!(stage_of(booting).1, "the VMM ended during the boot after stage root");
    let running = BootFacts { program_started: true, ..BootFacts::default() };
    assert_eq!(stage_of(running).0, "program");
    let exiting = BootFacts { exit: Some(ExitStatus::Code(0)), ..BootFacts::default() };
    assert_eq!(stage_of(exiting).0, "teardown");
}

#[test]
fn an_ended_vm_is_stopped_exactly_when_the_end_was_orderly_or_asked_for() {
    every_case(|vmm, facts, _, state| {
        if *vmm == VmmStatus::Gone {
            let orderly = facts.power_off || facts.stop_requested || facts.killed;
            assert_eq!(state == State::Stopped, orderly && facts.failure.is_none(), "{facts:?}");
        }
    });
}

#[test]
fn the_first_failure_is_the_reason() {
    let mut facts = BootFacts::default();
    for (stage, errno) in [("root", Some(2)), ("teardown", None)] {
        facts.apply(&Event::Fatal {
            stage: stage.into(),
            errno,
            path: Some("/dev/vda".into()),
            error: "cannot mount".into(),
        });
    }
    let expected = Failure { stage: "root".into(), reason: "/dev/vda: cannot mount (errno 2)".into() };
    assert_eq!(facts.failure, Some(expected));
}

#[test]
fn events_add_up_the_same_in_any_order_and_however_often_they_are_heard() {
    let events = [
        Event::AgentReady,
        Event::ProgramStart { mode: crate::boot_spec::Mode::Exec, pid: 9 },
        Event::Exit { status: ExitStatus::Signal(9), oom: true },
        Event::PowerOff,
    ];
    let add = |events: &[&Event]| {
        let mut facts = BootFacts::default();
        events.iter().for_each(|event| facts.apply(event));
        facts
    };
    let forward: Vec<&Event> = events.iter().collect();
    let backward: Vec<&Event> = events.iter().rev().chain(events.iter()).collect();
    assert_eq!(add(&forward), add(&backward));
}
