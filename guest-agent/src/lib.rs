//! The host's hands in a VM: one static binary, tokio on one thread.
//!
//! ```text
//! listen ─► server ─► session (hello, token, version) ─► op (a file an operation)
//!                        │ wire, deframer                  ├─► sessions         commands that outlive their host
//!                        │                                 ├─► process          commands, supervised by pidfd
//!                        ▼                                 ├─► health           checks, again and again
//!                        ▼                                 ├─► program_output   pipes and memfds from init
//!                      socket ◄──────────────────── bulk ◄─┴─► copies           firstlight_tree, on threads that may block
//! ```
//!
//! Init starts it with two descriptors in its environment: [`config`] says what to serve, [`ready`] tells init when it
//! listens. [`teardown`] is how it ends. Nothing a peer sends can make it fail, block another peer, or hold more than
//! the bounds that `session`, `agent` and `process` name.

pub mod agent;
pub mod clock;
pub mod config;
pub mod copies;
pub mod deframer;
pub mod failure;
pub mod gate;
pub mod health;
pub mod incarnation;
pub mod journal;
pub mod listen;
pub mod op;
pub mod options;
pub mod process;
pub mod program_output;
pub mod ready;
pub mod road;
pub mod server;
pub mod session;
mod sessions;
pub mod sys;
pub mod system_file;
pub mod teardown;
pub mod under_way;
pub mod wire;
