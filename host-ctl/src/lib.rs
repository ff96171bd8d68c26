//! The host's library: it runs VMs, tells their state and talks to their agents. `host-ctl` is its command.

pub mod agent;
pub mod assets;
pub mod backoff;
pub mod boot;
pub mod boot_bench;
pub mod boot_chart;
pub mod clock;
pub mod copy;
pub mod driver;
pub mod forward;
pub mod headers;
pub mod image;
pub mod log;
pub mod monitor;
pub mod operation;
pub mod pool;
mod random;
pub mod snapshot;
pub mod socket_path;
pub mod sync;
mod sys;
pub mod vm;
