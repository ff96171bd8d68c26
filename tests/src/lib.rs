//! The harness of the end-to-end tests: a [`Lab`] is a state directory of its own in which a test drives the real
//! `host-ctl` against real VMs, and which fails the test when anything is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "all of this crate is test code")]

pub mod agent_suite;
pub mod disk;
pub mod follow;
pub mod host_process;
pub mod lab;
pub mod leftovers;
pub mod pool;
pub mod requirement;
pub mod small_disk;
pub mod terminal;
pub mod vm;

pub use follow::Follower;
pub use lab::{Finished, Lab};
pub use vm::Vm;

/// Lets `duration` pass. For tests that cut something off at instants of their choosing: the instant is what they vary, not
/// what they wait for.
#[allow(clippy::disallowed_methods, reason = "see above")]
pub fn let_pass(duration: std::time::Duration) {
    std::thread::sleep(duration);
}
