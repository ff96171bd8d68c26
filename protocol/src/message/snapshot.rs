//! What the guest does for a snapshot: it is held still before a save, and told who it is after a restore.
//!
//! ```text
//!   Open ──SnapshotPrepareRequest──► Held ──SnapshotThawRequest, or the watchdog──► Open   (the VM that was saved)
//!                                      └───SnapshotRestoreRequest─────────────────► Open   (a VM restored from it)
//! ```
//!
//! A held agent closes the connection of whoever asks for anything else: the answer would be given twice, once in each
//! copy of the guest.

use std::net::IpAddr;

use super::output::Position;
use crate::hex::{BootId, Secret};

/// Most network interfaces in a request.
pub const MAX_INTERFACES: usize = 16;

/// Bytes of fresh entropy: as many as the kernel's generator keeps of it (BLAKE2s, `drivers/char/random.c`), twice.
pub const ENTROPY_LEN: usize = 64;

/// Get ready to be saved: let requests finish, drop every other connection, write everything to the disks and freeze
/// the file systems on them.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SnapshotPrepareRequest {
    /// How long requests under way may take to finish, in milliseconds, before the guest refuses to be saved.
    pub drain_ms: u32,
    /// After how many milliseconds the guest thaws itself when nobody says anything, by its own clock, which stands
    /// still while the VM does.
    pub watchdog_ms: u32,
}

/// The guest is ready to be saved.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SnapshotPrepared {
    /// What was done, in order.
    pub steps: Vec<StepDone>,
    /// How much the program has written so far.
    pub output: Position,
}

/// The guest goes on. Repeating the request is no error.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SnapshotThawed {
    /// What was done, in order; nothing when the watchdog was faster.
    pub steps: Vec<StepDone>,
}

/// This guest is a copy; this is who it is from now on. Applied in the order of the fields, all or nothing that matters:
/// after a failure the guest stays held, and the request may be repeated.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SnapshotRestoreRequest {
    /// The new generation: random, and no other copy's.
    pub boot_id: BootId,
    /// The host's clock as this is sent, in nanoseconds since 1970.
    pub wall_ns: u64,
    /// Random bytes, every bit of which is credited.
    pub entropy: [u8; ENTROPY_LEN],
    /// The host name; `None` keeps the old one.
    pub hostname: Option<String>,
    /// The machine id (`machine-id(5)`).
    pub machine_id: [u8; 16],
    /// The network interfaces that change, at most [`MAX_INTERFACES`].
    pub interfaces: Vec<InterfaceIdentity>,
    /// Name servers; none keeps the old ones.
    pub nameservers: Vec<IpAddr>,
    /// Variables that every command run from now on starts with, before its own.
    pub environment: Vec<(Vec<u8>, Vec<u8>)>,
    /// What a host has to show from now on. The old token is dead with the answer.
    pub token: Secret,
}

/// Who an interface is from now on.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct InterfaceIdentity {
    /// Its hardware address so far.
    pub was: [u8; 6],
    /// Its hardware address from now on.
    pub mac: [u8; 6],
    /// Its addresses with the lengths of their prefixes, in place of all it had.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Its default gateways.
    pub gateways: Vec<IpAddr>,
}

/// The guest is who it was told to be.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SnapshotRestored {
    /// What was done, in order.
    pub steps: Vec<StepDone>,
}

/// A step that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct StepDone {
    /// Which.
    pub step: Step,
    /// How long it took, in nanoseconds.
    pub duration_ns: u64,
}

/// One thing the guest does around a save or after a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, bincode::Encode, bincode::Decode)]
pub enum Step {
    /// Waiting for requests under way.
    Drain,
    /// Closing connections.
    Disconnect,
    /// `sync(2)`.
    Sync,
    /// `FIFREEZE` on each file system on a disk.
    Freeze,
    /// `FITHAW` on each of them.
    Thaw,
    /// The new generation.
    Generation,
    /// The wall clock.
    Clock,
    /// Entropy, and new keys for the kernel's generator.
    Entropy,
    /// The host name.
    Hostname,
    /// The machine id.
    MachineId,
    /// Interfaces, addresses, routes and name servers.
    Network,
    /// The environment of later commands.
    Environment,
    /// The token.
    Token,
}

impl Step {
    /// The step's name, such as `machine-id`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Step::Drain => "drain",
            Step::Disconnect => "disconnect",
            Step::Sync => "sync",
            Step::Freeze => "freeze",
            Step::Thaw => "thaw",
            Step::Generation => "generation",
            Step::Clock => "clock",
            Step::Entropy => "entropy",
            Step::Hostname => "hostname",
            Step::MachineId => "machine-id",
            Step::Network => "network",
            Step::Environment => "environment",
            Step::Token => "token",
        }
    }
}
