//! Sockets by [`Address`](firstlight_protocol::message::forward::Address), as host and guest both need them to carry
//! connections: [`Stream`] to one, [`Listener`] at one; and [`bulk`] data over a connection between the two.

pub mod bulk;
mod listener;
mod stream;

pub use listener::Listener;
pub use stream::Stream;
