//! Sockets by [`Address`](firstlight_protocol::message::forward::Address), as host and guest both need them to carry
//! connections: [`Stream`] to one, [`Listener`] at one.

mod listener;
mod stream;

pub use listener::Listener;
pub use stream::Stream;
