//! The host's library: it runs VMs, tells their state and talks to their agents. `host-ctl` is its command.

pub mod agent;
pub mod operation;
pub mod socket_path;
