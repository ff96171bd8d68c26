//! Pools of VMs that are ready before anybody asks.
pub mod driver;
pub mod error;
pub mod handle;
pub mod journal;
mod millis;
pub mod name;
pub mod news;
pub mod policy;
mod random;
pub mod service;
