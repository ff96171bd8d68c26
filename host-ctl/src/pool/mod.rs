//! VMs that are ready before anybody asks: made ahead, handed out one by one, reset behind their holders' backs.
//!
//! ```text
//!  clients ── pool.sock ──► server ─┐                          ┌──► driver: make, reset, prove, check, destroy
//!  library ──────────────► Pool ────┴─► service, one task ─────┤
//!                                          │ events   ▲        └──► records: on disk before anything is done or said
//!                                          ▼          │ effects
//!                                        policy, pure: who gets what, and what becomes of each VM
//! ```
//!
//! * [`policy`] decides, without a lock, a clock or a descriptor; its phases and rules are described there.
//! * [`service`] owns it: one task, which hands events in and carries effects out.
//! * [`driver`] is what it asks of VMs; [`vms`] are real ones, the tests have others.
//! * [`simulation`] runs the policy against thousands of simulated VMs under virtual time.
//! * The process may be killed at any moment: [`service::Service::open`] takes over what the records say, keeps leases
//!   and destroys what is doubtful.

pub mod client;
pub mod driver;
pub mod news;
pub mod place;
pub mod policy;
pub mod server;
pub mod service;
pub mod simulation;
pub mod vms;
pub mod wire;

mod error;
mod golden;
mod handle;
mod journal;
mod millis;
mod name;
mod random;

pub use error::{AskError, PoolError};
pub use handle::{Granted, Pool};
pub use journal::RecordsError;
pub use name::{MAX_POOL_NAME, vm_name};
