//! The gate: instruction counts against the committed ones.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::measurement::{Context, Counts, counts};

/// How much more a boot may execute than the committed figures say.
const TOLERANCE: f64 = 0.03;

/// The committed figures.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    /// The kernel they were counted with.
    kernel: String,
    counts: Counts,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq)]
struct Comparison {
    what: &'static str,
    found: u64,
    /// What the committed figures make one expect.
    expected: f64,
}

impl Comparison {
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn change(&self) -> f64 {
        self.found as f64 / self.expected - 1.0
    }
}

/// Compares what is counted now with the committed figures. What the C programs execute is the measure: on the kernel of
/// the committed figures it is what it was, and on another it tells what that kernel changes.
fn compare(now: Counts, committed: Counts) -> [Comparison; 2] {
    let expected = |own: u64, measure_then: u64, measure_now: u64| {
        own as f64 * (measure_now as f64 / measure_then as f64)
    };
    [
        Comparison {
            what: "boot with disks, network and agent",
            found: now.boot,
            expected: expected(committed.boot, committed.floor, now.floor),
        },
        Comparison {
            what: "boot without",
            found: now.diskless,
            expected: expected(committed.diskless, committed.minimal, now.minimal),
        },
    ]
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json")
}

/// Counts, compares, and says what it found; `false` when there is a regression.
pub(crate) fn check(context: &Context) -> bool {
    let text =
        std::fs::read_to_string(path()).unwrap_or_else(|error| panic!("{}: {error}", path().display()));
    let baseline: Baseline =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path().display()));
    let mut holds = true;
    for comparison in compare(counts(context), baseline.counts) {
        let change = comparison.change();
        let verdict = if change > TOLERANCE { "REGRESSION" } else { "ok" };
        holds &= change <= TOLERANCE;
        println!(
            "{verdict}: {}: {} instructions, {:+.2} % of the committed figure",
            comparison.what,
            comparison.found,
            change * 100.0
        );
    }
    if !holds {
        println!(
            "more than {:.0} % over bench/baseline.json; if that is meant: make bench ARGS=--update",
            TOLERANCE * 100.0
        );
    }
    holds
}

/// Counts anew, and writes the committed figures.
pub(crate) fn update(context: &Context) {
    let kernel = context.assets.modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let baseline = Baseline { kernel, counts: counts(context) };
    let text = serde_json::to_string_pretty(&baseline).unwrap_or_else(|error| panic!("{error}"));
    std::fs::write(path(), text + "\n").unwrap_or_else(|error| panic!("{}: {error}", path().display()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: Counts = Counts { boot: 40_000, floor: 36_000, diskless: 1_500, minimal: 600 };

    fn worst(now: Counts) -> f64 {
        compare(now, COMMITTED).iter().map(Comparison::change).fold(f64::MIN, f64::max)
    }

    #[test]
    fn the_committed_figures_are_no_regression_of_themselves() {
        assert!(worst(COMMITTED).abs() < 1e-9);
    }

    #[test]
    fn an_init_that_does_more_is_one_whichever_boot_it_shows_in() {
        assert!(worst(Counts { boot: 41_300, ..COMMITTED }) > TOLERANCE);
        assert!(worst(Counts { diskless: 1_560, ..COMMITTED }) > TOLERANCE);
    }

    #[test]
    fn a_kernel_that_does_more_is_not() {
        assert!(worst(Counts { boot: 44_000, floor: 39_600, ..COMMITTED }) < TOLERANCE);
    }
}
