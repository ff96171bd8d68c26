//! What runs in the guest, in which version.

use serde::Serialize;

use crate::version::Version;

/// Versions from the protocol up to the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, bincode::Encode, bincode::Decode)]
pub struct Versions {
    /// The agent's, as in its crate.
    pub agent: String,
    /// The oldest protocol generation it speaks.
    pub protocol_oldest: Version,
    /// The newest.
    pub protocol_newest: Version,
    /// The kernel's release (`uname -r`).
    pub kernel: String,
    /// How that kernel was built (`uname -v`).
    pub kernel_build: String,
    /// The machine's architecture, such as `x86_64`.
    pub architecture: String,
    /// What the image says it is; `None` when it says nothing.
    pub os: Option<Os>,
}

/// The image's `os-release(5)`. Its words are the image's own and prove nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, bincode::Encode, bincode::Decode)]
pub struct Os {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `12`; empty for one that has none.
    pub version: String,
    /// `PRETTY_NAME`, for people.
    pub name: String,
}
