//! The first frames of a connection.

use crate::hex::{BootId, Secret};
use crate::version::{Range, Version};

/// The host's first frame.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Hello {
    /// This boot's token.
    pub token: Secret,
    /// The generations the host speaks.
    pub versions: Range,
}

/// The agent's answer.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Welcome {
    /// The generation both will speak on this connection.
    pub version: Version,
    /// The boot the agent serves, so that a host that reached another VM's agent, or an earlier boot's, sees it.
    pub boot_id: BootId,
}

/// Why the agent closes the connection instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode, thiserror::Error)]
pub enum Refusal {
    /// The token is not this boot's.
    #[error("the agent refused the token: it belongs to another boot")]
    WrongToken,
    /// The two ranges do not meet; this is the agent's.
    #[error("the agent speaks protocol {} to {}; use a host-ctl that does too", .0.oldest, .0.newest)]
    NoCommonVersion(Range),
    /// As many connections are open as the agent allows.
    #[error("the agent has too many connections open")]
    Busy,
}
