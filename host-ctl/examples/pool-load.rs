//! Prints the table of `docs/pool.md`: how long an acquire waits, against load, in simulation.
//! `cargo run -p firstlight-host-ctl --example pool-load`

use std::io::{self, Write as _};
use std::time::Duration;

use firstlight_host_ctl::pool::policy::Bounds;
use firstlight_host_ctl::pool::simulation::{Outcome, Scenario, WorkTimes, run};

/// Callers for every hundred that the pool could serve if VMs needed neither reset nor replacement.
const LOADS: [u32; 6] = [10, 50, 80, 90, 95, 120];

/// Long enough for a pool to be in its stride, and for a rare wait to be seen.
const LEAST_TIME: Duration = Duration::from_mins(10);
const LEAST_CALLERS: u32 = 20_000;

const HOLD: Duration = Duration::from_secs(30);

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "| pool | load | burst | callers | p50 | p99 | p99.9 | in time |")?;
    writeln!(out, "| --- | --- | --- | --- | --- | --- | --- | --- |")?;
    for (min, max, parallel) in [(5, 20, 4), (500, 10_000, 512)] {
        for load in LOADS {
            for burst in [0, u32::try_from(max / 10).unwrap_or(0)] {
                let outcome = run(&scenario(min, max, parallel, load, burst));
                assert!(outcome.broken.is_empty(), "{:?}", outcome.broken);
                writeln!(out, "{}", row(max, load, burst, &outcome))?;
            }
        }
    }
    Ok(())
}

fn scenario(min: usize, max: usize, parallel: usize, load: u32, burst: u32) -> Scenario {
    let vms = u32::try_from(max).unwrap_or(u32::MAX);
    let between_callers = HOLD / vms * 100 / load;
    Scenario {
        bounds: Bounds { min, max, parallel, waiters: 65_536, ..Bounds::default() },
        seed: 1,
        duration: LEAST_TIME.max(between_callers * LEAST_CALLERS),
        between_callers,
        burst,
        hold: HOLD,
        patience: Duration::from_secs(30),
        work: WorkTimes::emulated(),
        failures: 50,
        crashes: 0,
    }
}

fn row(max: usize, load: u32, burst: u32, outcome: &Outcome) -> String {
    let counts = outcome.counts;
    let callers = counts.granted + counts.timed_out + counts.refused;
    let in_time = counts.granted * 1_000 / callers.max(1);
    let [p50, p99, p999] = [500, 990, 999].map(|per_thousand| show(outcome.wait(per_thousand)));
    format!(
        "| {max} VMs | {load} % | {burst} | {callers} | {p50} | {p99} | {p999} | {}.{} % |",
        in_time / 10,
        in_time % 10
    )
}

fn show(wait: Duration) -> String {
    let ms = wait.as_millis();
    if ms < 1_000 { format!("{ms} ms") } else { format!("{}.{} s", ms / 1_000, ms % 1_000 / 100) }
}
