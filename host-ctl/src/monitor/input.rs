//! What the tasks of a monitor tell its one owner.

use firstlight_protocol::init_command::InitCommand;
use firstlight_protocol::sentinel::Sentinel;
use tokio::sync::mpsc;

use super::server::Client;
use super::wire::Request;
use crate::clock::Stamp;
use crate::driver::VmmEvent;
use crate::snapshot::manifest::Disk;
use crate::snapshot::saved::TimedStep;
use crate::vm::record::{SaveFailure, Source};

/// How many of these may wait. The tasks wait too when the owner is behind, and with them what they read.
pub(super) const QUEUE: usize = 256;

/// What a copy said when it was told who it is.
#[derive(Debug)]
pub(super) struct Told {
    /// When its agent answered first: a greeting, where it has a port, or else its token.
    pub(super) answered: Stamp,
    /// What it did.
    pub(super) steps: Vec<TimedStep>,
}

/// Something happened.
#[derive(Debug)]
pub(super) enum Input {
    /// An authentic sentinel of this boot was heard; perhaps not for the first time.
    Heard {
        /// The sentinel.
        sentinel: Sentinel,
        /// On which road.
        source: Source,
    },
    /// The serial log was rotated.
    SerialRotated,
    /// The output log has grown or was rotated.
    OutputGrew,
    /// The VMM said something of its guest.
    Vmm(VmmEvent),
    /// The VMM's process has ended.
    VmmGone,
    /// An event stream has proved to be init's.
    StreamOpened {
        /// Tells it from others.
        id: u64,
        /// Takes what is to be said to init.
        commands: mpsc::Sender<InitCommand>,
    },
    /// An event stream ended.
    StreamClosed {
        /// Which.
        id: u64,
    },
    /// A save is over; the guest goes on.
    Saved(Result<Vec<Disk>, SaveFailure>),
    /// A copy was told who it is.
    Restored(Result<Told, String>),
    /// The clock of a guest that goes on was set, or could not be.
    ClockSet {
        /// For which of its resumptions.
        resumption: u64,
    },
    /// A client asks for something.
    Request {
        /// Who.
        client: Client,
        /// What.
        request: Request,
    },
}
