//! The measurements, one a file. Each gives a section of the report.
//!
//! To add one: write a function from [`Context`] to [`Section`] in a file of its own, and name it in [`ALL`].

mod boot_path;
mod create;
mod events;
mod footprint;
mod headers;
mod power_on;

use firstlight_host_ctl::vm::spec::Assets;
use firstlight_tests::Lab;

use crate::machine::Bench;
use crate::machine::scene::Disks;
use crate::machine::tools::Tools;
use crate::report::Section;

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
    /// host-ctl, in a state directory of its own.
    pub(crate) lab: Lab,
    /// How often each boot is repeated.
    pub(crate) runs: usize,
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
];
