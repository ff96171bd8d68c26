//! One boot of a VM, as data: what the guest is told, and what the VMM is given.
//!
//! Everything here is computed from the spec alone, but for the secrets, which are random, and kernel and initramfs,
//! which are made from files.

pub mod cache;
pub mod guest;
pub mod initramfs;
pub mod kernel;
pub mod machine;
pub mod tsc;

use std::io;

use firstlight_protocol::hex::{BootId, Secret};

/// What of the host a boot depends on.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// Whether the host's kernel gives guests their vsock.
    pub kernel_vsock: bool,
    /// The rate of its time-stamp counter, where that is constant and known.
    pub tsc_khz: Option<u64>,
}

/// What is random about a boot.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// Tells it from others.
    pub boot_id: BootId,
    /// Signs its sentinels.
    pub mac_key: Secret,
    /// Opens its agent.
    pub token: Secret,
    /// The guest's context id where the host's kernel gives the vsock: unique on the host but for bad luck, at which
    /// the VMM refuses to start.
    pub cid: u32,
}

impl Secrets {
    /// New ones.
    ///
    /// # Errors
    /// The kernel gives no random bytes.
    pub fn random() -> io::Result<Secrets> {
        /// The first context id of a guest (`vsock(7)`).
        const FIRST_CID: u32 = 3;
        let cid = u32::from_ne_bytes(crate::random::bytes()?) & 0x7fff_ffff;
        Ok(Secrets {
            boot_id: BootId(crate::random::bytes()?),
            mac_key: Secret(crate::random::bytes()?),
            token: Secret(crate::random::bytes()?),
            cid: cid.max(FIRST_CID),
        })
    }
}
