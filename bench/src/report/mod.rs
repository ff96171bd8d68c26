//! Figures, and the forms they are published in.
//!
//! A measurement gives a [`Section`]; everything else here is the same for all of them. Figures are medians with their
//! extremes, because a machine has other things to do; what counts is the [`Check`]s, ratios of figures of one run.

mod docs;
mod svg;
mod table;

use std::path::Path;

use firstlight_host_ctl::boot_bench::Spread;
use serde::Serialize;

pub(crate) use docs::{Sections, publish};

/// Everything one run of the benchmark found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// The version of this document.
    pub(crate) version: u32,
    /// Where it was measured, in words.
    pub(crate) machine: String,
    /// One for each measurement.
    pub(crate) sections: Vec<Section>,
}

/// What one measurement found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Section {
    /// The measurement's name on the command line.
    pub(crate) name: &'static str,
    /// What was measured, as a heading.
    pub(crate) title: &'static str,
    /// How, in a sentence or two.
    pub(crate) text: String,
    /// The figures.
    pub(crate) figures: Vec<Figure>,
    /// What they have to hold to.
    pub(crate) checks: Vec<Check>,
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    /// Of what.
    pub(crate) what: String,
    /// In what unit.
    pub(crate) unit: &'static str,
    /// As often as it was measured.
    pub(crate) samples: Vec<f64>,
    /// Why it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_measured: Option<String>,
}

/// A figure with a target.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    /// What it says.
    pub(crate) what: String,
    /// What was found.
    pub(crate) value: f64,
    /// What it should be.
    pub(crate) target: Target,
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Nobody has said.
    Open,
}

impl Figure {
    /// A figure of one or more samples.
    #[must_use]
    pub(crate) fn new(what: impl Into<String>, unit: &'static str, samples: Vec<f64>) -> Figure {
        Figure { what: what.into(), unit, samples, not_measured: None }
    }

    /// A figure that there is none of, for this reason.
    #[must_use]
    pub(crate) fn not_measured(what: impl Into<String>, unit: &'static str, why: &str) -> Figure {
        Figure { not_measured: Some(why.to_owned()), ..Figure::new(what, unit, Vec::new()) }
    }

    /// The middle and the extremes; `None` where it was not measured.
    #[must_use]
    pub(crate) fn spread(&self) -> Option<Spread> {
        Spread::of(&self.samples)
    }

    /// The middle one; not a number where it was not measured.
    #[must_use]
    pub(crate) fn median(&self) -> f64 {
        self.spread().map_or(f64::NAN, |spread| spread.median)
    }

    /// So many per cent of the samples are no greater than this; not a number where it was not measured.
    #[must_use]
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }
}

impl Check {
    /// A value that has a target.
    #[must_use]
    pub(crate) fn new(what: impl Into<String>, value: f64, target: Target) -> Check {
        Check { what: what.into(), value, target }
    }

    /// Whether it holds.
    #[must_use]
    pub(crate) fn is_met(&self) -> bool {
        match self.target {
            Target::AtMost(limit) => self.value <= limit,
            Target::AtLeast(limit) => self.value >= limit,
            Target::Open => true,
        }
    }
}

impl Report {
    /// The report as Markdown.
    #[must_use]
    pub(crate) fn markdown(&self) -> String {
        table::markdown(self)
    }

    /// Writes `report.json`, `report.md` and a picture of each section with times into `dir`.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub(crate) fn write(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        std::fs::write(dir.join("report.json"), serde_json::to_vec_pretty(self)?)?;
        std::fs::write(dir.join("report.md"), self.markdown())?;
        for section in &self.sections {
            if let Some(picture) = svg::bars(section) {
                std::fs::write(dir.join(format!("{}.svg", section.name)), picture)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_samples_whatever_their_order() {
        let samples: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        let figure = Figure::new("", "ms", samples);
        assert_eq!([50, 99, 100].map(|percent| figure.percentile(percent)), [100.0, 198.0, 200.0]);
        assert_eq!(Figure::new("", "ms", vec![7.0]).percentile(99), 7.0);
        assert!(Figure::not_measured("", "ms", "no time").percentile(99).is_nan());
    }

    #[test]
    fn a_target_is_a_bound_from_one_side() {
        assert!(Check::new("", 1.0, Target::AtMost(1.0)).is_met());
        assert!(!Check::new("", 1.1, Target::AtMost(1.0)).is_met());
        assert!(Check::new("", 3.5, Target::AtLeast(3.4)).is_met());
        assert!(!Check::new("", f64::NAN, Target::AtLeast(3.4)).is_met());
    }
}
