//! The host's side of the conversation with an agent.
//!
//! ```text
//!  transport   bytes to a port of the guest: vhost-user's unix socket, the kernel's vsock, a plain unix socket
//!      │
//!  Connection  hello, token, version; then frames in both directions
//!      │
//!      ├── Client       unary requests, many at a time, paired by id
//!      │     ▲
//!      │  connection_pool ◄── Agents   clients by VM and boot, shared and kept for a while
//!      │     └── batch  many operations in one request; probe and bundle are made of it
//!      ├── session      one command with its streams; takes the connection for itself
//!      └── forward      one carried connection, guest listener or list of ports; likewise
//! ```
//!
//! Streams take a connection each, so the transport's own flow control does the work and no request waits behind
//! bulk data.

pub mod batch;
pub mod bundle;
pub mod connection_pool;
pub mod file_view;
pub mod forward;
pub mod probe;
pub mod rates;
pub mod session;
pub mod transport;

mod agents;
mod client;
mod connection;
mod error;
mod unary;

pub use agents::{Agent, Agents, Ask};
pub use client::Client;
pub(crate) use connection::expect;
pub use connection::{Connection, Receiver, Sender};
pub use error::{Awaited, Error, PoolError};
pub use unary::{Ping, SessionsRequest, StatusRequest, ThawRequest, Unary};

#[cfg(test)]
mod conversation_tests;
#[cfg(test)]
pub(crate) mod script;
