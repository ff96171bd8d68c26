//! Many operations in one round trip: one frame there, one frame back.
//!
//! [`Operation`] is the list of what may be in a batch, so a batch inside a batch or a shutdown cannot even be written
//! down. To add an operation: a variant here and in [`Answer`], an arm in the agent's `op/batch/perform.rs`, a line in
//! host-ctl's `agent/batch/document.rs`. Both enums are append-only, like [`Kind`](super::Kind).

use super::error::AgentError;
use super::events::{Events, EventsRequest};
use super::file::{
    FileList, FileListRequest, FileStat, FileStatRequest, MakeDirRequest, RemoveRequest, RenameRequest,
};
use super::health::{Check, Health};
use super::network::Network;
use super::stats::Stats;
use super::status::Status;
use super::versions::Versions;
use crate::frame::MAX_PAYLOAD;
use crate::sentinel::ExitStatus;

/// Most items of a batch. One more makes the whole batch invalid.
pub const MAX_ITEMS: usize = 256;

/// Most bytes of an item's id.
pub const MAX_ID: usize = 64;

/// Most items under way at one time: each may be a process of the guest.
pub const MAX_PARALLEL: u16 = 64;

/// Longest that a batch may take, in ms. Nobody else's requests are served on its connection meanwhile.
pub const MAX_DEADLINE_MS: u32 = 10 * 60 * 1000;

/// Most bytes kept of each stream of a command; the rest is counted and thrown away.
pub const MAX_OUTPUT: u32 = 256 * 1024;

/// What every result may take whatever it says: its id, its kind, or an error that there was no room for more.
const RESERVED: usize = 256;

/// Bytes that the answers of a batch have together. Once they are used up, commands' output is cut and what cannot be cut is
/// an error of its item.
pub const ANSWER_BYTES: usize = MAX_PAYLOAD as usize - (MAX_ITEMS + 1) * RESERVED;

/// Do all of this.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct BatchRequest {
    /// What, in the order in which they start.
    pub items: Vec<Item>,
    /// How many at one time, 1 to [`MAX_PARALLEL`]; 1 is strictly one after the other.
    pub parallel: u16,
    /// Start nothing more once an item has [failed](Outcome::is_failure). What is under way goes on.
    pub stop_on_error: bool,
    /// After this many milliseconds the answer comes with what there is, at most [`MAX_DEADLINE_MS`].
    pub deadline_ms: u32,
}

/// One operation of a batch.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Item {
    /// Chosen by the host, each once in a batch, 1 to [`MAX_ID`] bytes.
    pub id: String,
    /// Milliseconds it may take; `None` leaves it the batch's deadline alone.
    pub timeout_ms: Option<u32>,
    /// What to do.
    pub operation: Operation,
}

/// What may be done in a batch.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Operation {
    /// Give these bytes back.
    Ping(Vec<u8>),
    /// Say what the agent knows of its guest.
    Status,
    /// Give the sentinels of this boot.
    Events(EventsRequest),
    /// Run a command and collect what it writes.
    Exec(Command),
    /// Count the guest's resources.
    Stats,
    /// Describe the guest's network.
    Network,
    /// Say what runs in the guest, in which version.
    Versions,
    /// Give the state of the health checks.
    Health {
        /// First wait until each of them has been decided once.
        decided: bool,
    },
    /// Run these health checks from now on, in place of those before. None ends them all.
    SetHealth(Vec<Check>),
    /// Look at one file.
    Stat(FileStatRequest),
    /// List a directory, as far as one request does.
    List(FileListRequest),
    /// Make a directory.
    MakeDir(MakeDirRequest),
    /// Remove a file or a directory. A tree that is not removed in time goes on being removed.
    Remove(RemoveRequest),
    /// Give a file another name.
    Rename(RenameRequest),
}

/// A command without a standard input, whose output is collected.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Command {
    /// The command and its arguments, as in [`super::exec::ExecRequest`].
    pub argv: Vec<Vec<u8>>,
    /// Variables set on top of the agent's default environment.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Working directory; `None` is `/`.
    pub cwd: Option<Vec<u8>>,
    /// `user`, `uid`, `user:group` or `uid:gid`; `None` is root.
    pub user: Option<String>,
    /// Bytes kept of each stream, at most [`MAX_OUTPUT`].
    pub max_output: u32,
}

/// The results, in the order of the items.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Batch {
    /// One for each item.
    pub results: Vec<ItemResult>,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ItemResult {
    /// The item's.
    pub id: String,
    /// Microseconds from its start to its end; 0 when it never started.
    pub elapsed_us: u64,
    /// How it went.
    pub outcome: Outcome,
}

/// How one item went.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Outcome {
    /// It was done.
    Done(Answer),
    /// It could not be done.
    Error(AgentError),
    /// It was not begun.
    Skipped(Skip),
    /// Its own time or the batch's was up. A command gets SIGTERM, then SIGKILL; this is what it had written.
    TimedOut(Option<Output>),
}

/// Why an item was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Skip {
    /// One before it failed, and the batch was to stop then.
    AfterError,
    /// The batch's time was up.
    Deadline,
}

/// What an operation gave.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Answer {
    /// [`Operation::Ping`]'s bytes.
    Pong(Vec<u8>),
    /// To [`Operation::Status`].
    Status(Box<Status>),
    /// To [`Operation::Events`].
    Events(Events),
    /// To [`Operation::Exec`]: the command ran to its end.
    Exec(Ran),
    /// To [`Operation::Stats`].
    Stats(Box<Stats>),
    /// To [`Operation::Network`].
    Network(Box<Network>),
    /// To [`Operation::Versions`].
    Versions(Box<Versions>),
    /// To [`Operation::Health`] and [`Operation::SetHealth`].
    Health(Health),
    /// To [`Operation::Stat`].
    Stat(Box<FileStat>),
    /// To [`Operation::List`].
    List(FileList),
    /// To [`Operation::MakeDir`], [`Operation::Remove`] and [`Operation::Rename`], which have nothing to say.
    FileDone,
}

/// A command that ended.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Ran {
    /// How.
    pub status: ExitStatus,
    /// Whether the kernel's OOM killer ended it.
    pub out_of_memory: bool,
    /// What it wrote.
    pub output: Output,
}

/// What a command wrote.
#[derive(Debug, Clone, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub struct Output {
    /// To its standard output.
    pub stdout: Captured,
    /// To its standard error.
    pub stderr: Captured,
}

/// The beginning of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub struct Captured {
    /// Its first bytes.
    pub bytes: Vec<u8>,
    /// How many came after them.
    pub omitted: u64,
}

impl Outcome {
    /// Whether whoever asked did not get what they wanted. A command that ended with anything but 0 was run, so its
    /// outcome is [`Outcome::Done`], and a failure all the same.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        match self {
            Outcome::Done(Answer::Exec(ran)) => ran.status != ExitStatus::Code(0),
            Outcome::Done(
                Answer::Pong(_)
                | Answer::Status(_)
                | Answer::Events(_)
                | Answer::Stats(_)
                | Answer::Network(_)
                | Answer::Versions(_)
                | Answer::Health(_)
                | Answer::Stat(_)
                | Answer::List(_)
                | Answer::FileDone,
            ) => false,
            Outcome::Error(_) | Outcome::Skipped(_) | Outcome::TimedOut(_) => true,
        }
    }
}
