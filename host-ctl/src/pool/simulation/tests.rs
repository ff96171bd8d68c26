//! Rules that hold whatever a pool goes through.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Ten thousand VMs, five failures in a hundred, slow disks, and bursts of a tenth of the pool.
fn ten_thousand(load: u32) -> Scenario {
    let bounds = Bounds {
        min: 500,
        max: 10_000,
        parallel: 512,
        waiters: 65_536,
        max_uses: 50,
        max_age: 300 * SECOND,
        max_idle: 20 * SECOND,
        ..Bounds::default()
    };
    Scenario {
        bounds,
        seed: 11,
        duration: 120 * SECOND,
        // A hold of 30 s: 10,000 VMs serve a caller each 3 ms.
        between_callers: Duration::from_micros(3_000) * 100 / load,
        burst: 1_000,
        hold: 30 * SECOND,
        patience: 10 * SECOND,
        work: WorkTimes::emulated(),
        failures: 50,
        crashes: 5,
    }
}

#[test]
fn ten_thousand_vms_with_failures_bursts_and_slow_disks_break_no_rule() {
    let outcome = run(&ten_thousand(90));
    assert_eq!(outcome.broken, Vec::<String>::new());
    assert!(outcome.most_vms > 5_000, "{} VMs", outcome.most_vms);
    let counts = outcome.counts;
    assert!(counts.make_failed > 100 && counts.reset_failed > 100 && counts.expired > 10, "{counts:?}");
    assert!(counts.timed_out * 100 < counts.granted, "{counts:?}");
}

#[test]
fn a_pool_that_is_asked_for_more_than_it_can_give_refuses_the_rest_in_time_and_serves_on() {
    let outcome = run(&ten_thousand(200));
    assert_eq!(outcome.broken, Vec::<String>::new());
    assert!(outcome.counts.timed_out > 0);
    assert!(outcome.counts.granted > 10_000, "{:?}", outcome.counts);
    assert!(outcome.most_vms <= 10_000);
}

#[test]
fn the_same_seed_gives_the_same_outcome() {
    let scenario = Scenario { duration: 10 * SECOND, ..ten_thousand(50) };
    assert_eq!(run(&scenario), run(&scenario));
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let sizes = (0..10_usize, 1..40_usize, 1..10_usize, 1..50_usize, 0..5_u32);
    let times = (1..2_000_u64, 0..60_u32, 1..20_000_u64, 0..10_000_u64, 5..100_u64, 1..30_u64);
    let luck = (any::<u64>(), 0..1_000_u32, 0..200_u32, 0..300_u32);
    (sizes, times, luck).prop_map(|(sizes, times, luck)| {
        let (min, max, parallel, waiters, max_uses) = sizes;
        let (between, burst, hold, patience, age, idle) = times;
        let (seed, failures, slow, crashes) = luck;
        let ms = Duration::from_millis;
        Scenario {
            bounds: Bounds {
                min: min.min(max),
                max,
                parallel,
                waiters,
                max_uses,
                max_age: Duration::from_secs(age),
                max_idle: Duration::from_secs(idle),
                ..Bounds::default()
            },
            seed,
            duration: 60 * SECOND,
            between_callers: ms(between),
            burst,
            hold: ms(hold),
            patience: ms(patience),
            // A row of failures without end would keep the drain from ending: the last VM could not be destroyed.
            failures: failures.min(950),
            crashes,
            work: WorkTimes { slow, ..WorkTimes::emulated() },
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_scenario_breaks_a_rule(scenario in scenarios()) {
        let outcome = run(&scenario);
        prop_assert_eq!(outcome.broken, Vec::<String>::new());
    }
}
