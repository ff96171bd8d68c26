//! Carrying connections between host and guest.
//!
//! ```text
//!  host ── ForwardRequest ────► connect ─┐
//!  host ── ForwardTakeRequest ► take ────┴─► carry ◄──► socket in the guest
//!                                 ▲
//!  host ◄─ ForwardIncoming ── listen ◄── somebody in the guest connects
//!  host ◄─ Ports ──────────── ports ◄─── /proc/net/tcp
//! ```
//!
//! `docs/decisions/0011-forward.md` says why half-close is a frame and why ports are polled for.

mod carry;
mod connect;
mod listen;
mod ports;
mod proc_net;
mod waiting;

pub use connect::{connect, take};
pub use listen::listen;
pub use ports::ports;
pub use waiting::Waiting;

use firstlight_protocol::codec;
use firstlight_protocol::message::Kind;
use firstlight_protocol::message::error::AgentError;

use crate::session::SessionError;
use crate::wire::FrameWriter;

async fn refuse(writer: &mut FrameWriter, id: u64, error: &AgentError) -> Result<(), SessionError> {
    Ok(writer.send(Kind::Error, id, &codec::encode(error)?).await?)
}
