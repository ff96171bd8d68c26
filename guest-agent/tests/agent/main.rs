//! The real agent over a unix socket, without a VM.
//!
//! | module | subject |
//! | --- | --- |
//! | [`everywhere`] | the cases that also run in a VM |
//! | [`hello`] | readiness, tokens, versions, too many connections |
//! | [`requests`] | ping, status, events, shutdown |
//! | [`batch`] | many operations in one frame |
//! | [`health`] | health checks, across the agent's death |
//! | [`exec`] | what a command gets, gives and how it ends |
//! | [`sessions`] | readers that come, go and come back; signals, terminals |
//! | [`files`] | looking at files, and changing their names |
//! | [`copy`] | copying files in bulk, and copies that end too early |
//! | [`forward`] | carried connections: connect, listen, half-close, resets, ports |
//! | [`sync`] | describing trees, sending what was chosen of them, amending |
//! | [`load`] | many commands, slow and vanished hosts |
//! | [`output`] | the program's output, across the agent's death |
//! | [`under_way`] | requests of one connection that wait for nothing but themselves |
//! | [`hostile`] | bytes that are no protocol |
//! | [`common`] | the agent as a child, and a client for it |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]
#![allow(unreachable_pub, reason = "the tests are one crate, and pub(crate) everywhere would say nothing")]

mod batch;
mod common;
mod copy;
mod everywhere;
mod exec;
mod files;
mod forward;
mod health;
mod hello;
mod hostile;
mod load;
mod output;
mod requests;
mod sessions;
mod sync;
mod under_way;
