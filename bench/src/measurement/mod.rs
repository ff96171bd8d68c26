//! The measurements, one a file. Each gives a section of the report.
//!
//! To add one: write a function from [`Context`] to [`Section`] in a file of its own, and name it in [`ALL`].

mod batch;
mod boot_path;
mod clones;
mod control;
mod copy;
mod create;
mod events;
mod exec;
mod footprint;
mod headers;
mod listing;
mod pool;
mod power_on;
mod small_files;

use std::cell::OnceCell;

use firstlight_host_ctl::vm::spec::Assets;
use firstlight_tests::Lab;

use crate::guest::{self, Guest};
use crate::machine::Bench;
use crate::machine::scene::Disks;
use crate::machine::tools::Tools;
use crate::report::{Check, Figure, Section, Target};

pub(crate) use boot_path::{Counts, counts};

/// What measurements share.
pub(crate) struct Context {
    /// The C programs.
    pub(crate) tools: Tools,
    /// Boots VMs without host-ctl.
    pub(crate) bench: Bench,
    /// What they boot from.
    pub(crate) assets: Assets,
    /// Their disks.
    pub(crate) disks: Disks,
    /// The VM of the host's path, once somebody needs it. It goes before the lab, which finds nothing left of it.
    pub(crate) guest: OnceCell<Guest>,
    /// host-ctl, in a state directory of its own.
    pub(crate) lab: Lab,
    /// How often each boot is repeated.
    pub(crate) runs: usize,
}

impl Context {
    /// The VM of the host's path; all that measure it share one.
    pub(crate) fn guest(&self) -> &Guest {
        self.guest.get_or_init(|| Guest::start(&self.lab, &self.tools, &self.assets))
    }

    /// Runs a script in it, and gives what it printed.
    fn in_guest(&self, script: &str) -> String {
        let _guest = self.guest();
        self.lab.host_ctl(&["exec", guest::NAME, "--", "sh", "-c", script]).ok().text()
    }
}

/// How the median of the figure `of` compares with that of the figure `to`.
fn ratio_of(figures: &[Figure], of: &str, to: &str, target: Target) -> Check {
    let median = |what: &str| {
        let mut found = figures.iter().filter(|figure| figure.what == what);
        found.next().unwrap_or_else(|| panic!("there is no figure called {what}")).median()
    };
    Check::new(format!("{of}, to {to}"), median(of) / median(to), target)
}

/// A measurement by name.
pub(crate) type Measurement = (&'static str, fn(&Context) -> Section);

/// All of them, in the order of the report.
pub(crate) const ALL: &[Measurement] = &[
    ("boot-path", boot_path::measure),
    ("create", create::measure),
    ("power-on", power_on::measure),
    ("headers", headers::measure),
    ("footprint", footprint::measure),
    ("events", events::measure),
    ("listing", listing::measure),
    ("pool", pool::measure),
    ("clones", clones::measure),
    ("exec", exec::measure),
    ("copy", copy::measure),
    ("small-files", small_files::measure),
    ("batch", batch::measure),
    ("control", control::measure),
];
