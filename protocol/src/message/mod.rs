//! What host and agent say to each other, frame by frame.
//!
//! A connection starts with [`hello::Hello`] and its answer. After that the host sends requests and the agent
//! answers each under its id. [`Kind`] is append-only: a number, once given, keeps its meaning and its bytes, because
//! a VM restored from a snapshot runs the agent it was saved with. `tests/golden.rs` holds the bytes of each
//! generation.
//!
//! | request | answer | then, under the same id |
//! | --- | --- | --- |
//! | `Ping` (any bytes) | `Pong` (the same bytes) | |
//! | `StatusRequest` | [`status::Status`] | |
//! | [`session::SessionStartRequest`] | [`session::SessionStarted`] or [`session::SessionEnd`] | [`session::SessionChunk`], [`session::SessionInputTaken`] from the agent; `Stdin`, `StdinEnd`, [`session::SessionAck`] from the host; [`session::SessionEnd`] and its acknowledgement last. None of it when detached |
//! | [`session::SessionAttachRequest`] | [`session::SessionAttached`] | as after a start |
//! | [`session::SessionSignalRequest`], [`session::SessionResizeRequest`] | `SessionDone` (empty) | |
//! | [`session::SessionWaitRequest`] | [`session::SessionEnd`] | |
//! | `SessionsRequest` (empty) | [`session::Sessions`] | |
//! | [`output::OutputRequest`] | | [`output::OutputChunk`] from the agent, [`output::OutputAck`] from the host, [`output::OutputEnd`] last |
//! | [`events::EventsRequest`] | [`events::Events`] | |
//! | [`shutdown::ShutdownRequest`] | `ShutdownAccepted` (empty) | |
//! | [`batch::BatchRequest`] | [`batch::Batch`] | |
//! | [`file::FileStatRequest`] | [`file::FileStat`] | |
//! | [`file::FileListRequest`] | [`file::FileList`] | |
//! | [`file::MakeDirRequest`], [`file::RemoveRequest`], [`file::RenameRequest`] | `FileDone` (empty) | |
//! | [`copy::PullRequest`] | | [`copy::Entry`] and `CopyData` from the agent, `CopyEnd` last |
//! | [`copy::PushRequest`] | | [`copy::Entry`] and `CopyData` from the host, `CopyEnd` last; then `CopyDone` from the agent |
//! | [`forward::ForwardRequest`], [`forward::ForwardTakeRequest`] | `ForwardConnected` (empty) | `ForwardBytes`, then one `ForwardEnd`, from each |
//! | [`forward::ForwardListenRequest`] | [`forward::ForwardListening`] | [`forward::ForwardIncoming`] from the agent, [`forward::ForwardDecline`] from the host |
//! | `PortsRequest` (empty) | | [`forward::Ports`] from the agent |
//! | [`sync::TreeRequest`] | | [`sync::TreeItems`] from the agent, [`sync::TreeEnd`] last |
//! | [`sync::FetchRequest`] | | as for [`copy::PullRequest`] |
//! | [`sync::AmendRequest`] | [`sync::AmendDone`] | |
//! | [`snapshot::SnapshotPrepareRequest`] | [`snapshot::SnapshotPrepared`] | |
//! | `SnapshotThawRequest` (empty) | [`snapshot::SnapshotThawed`] | |
//! | [`snapshot::SnapshotRestoreRequest`] | [`snapshot::SnapshotRestored`] | |
//! | [`clock::ClockRequest`] | `ClockDone` (empty) | |
//!
//! Any request may be answered by an [`error::AgentError`] instead.
//!
//! `ExecRequest`, `ExecStarted`, `Stdout`, `Stderr`, `SignalRequest` and `ExecEnd` are retired: hosts before sessions ran
//! commands with them. Their numbers and bytes are not given to anything else.

pub mod batch;
pub mod clock;
pub mod copy;
pub mod error;
pub mod events;
pub mod exec;
pub mod file;
pub mod forward;
pub mod health;
pub mod hello;
pub mod network;
pub mod output;
pub mod session;
pub mod shutdown;
pub mod snapshot;
pub mod stats;
pub mod status;
pub mod sync;
pub mod versions;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// What a frame's payload is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// Every kind, in the order of their numbers.
            pub const ALL: &[Kind] = &[$(Kind::$name),*];

            /// The kind's number on the wire.
            #[must_use]
            pub fn number(self) -> u16 {
                match self {
                    $(Kind::$name => $number,)*
                }
            }

            /// The kind with this number.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Kind> {
                match number {
                    $($number => Some(Kind::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// Host to agent, first on every connection: [`hello::Hello`].
    Hello = 1,
    /// Its answer: [`hello::Welcome`].
    Welcome = 2,
    /// Instead of the answer, before the connection closes: [`hello::Refusal`].
    Refusal = 3,
    /// Raw bytes that come back unchanged.
    Ping = 4,
    /// The bytes of a `Ping`.
    Pong = 5,
    /// Empty.
    StatusRequest = 6,
    /// [`status::Status`].
    Status = 7,
    /// [`exec::ExecRequest`].
    ExecRequest = 8,
    /// [`exec::ExecStarted`].
    ExecStarted = 9,
    /// Raw bytes for the process's standard input.
    Stdin = 10,
    /// Empty: standard input ends.
    StdinEnd = 11,
    /// Raw bytes of the process's standard output.
    Stdout = 12,
    /// Raw bytes of the process's standard error.
    Stderr = 13,
    /// [`exec::SignalRequest`].
    SignalRequest = 14,
    /// [`exec::ExecEnd`].
    ExecEnd = 15,
    /// [`output::OutputRequest`].
    OutputRequest = 16,
    /// [`output::OutputChunk`].
    OutputChunk = 17,
    /// [`output::OutputAck`].
    OutputAck = 18,
    /// [`output::OutputEnd`].
    OutputEnd = 19,
    /// [`events::EventsRequest`].
    EventsRequest = 20,
    /// [`events::Events`].
    Events = 21,
    /// [`shutdown::ShutdownRequest`].
    ShutdownRequest = 22,
    /// Empty.
    ShutdownAccepted = 23,
    /// [`error::AgentError`].
    Error = 24,

    /// [`file::FileStatRequest`].
    FileStatRequest = 32,
    /// [`file::FileStat`].
    FileStat = 33,
    /// [`file::FileListRequest`].
    FileListRequest = 34,
    /// [`file::FileList`].
    FileList = 35,
    /// [`file::MakeDirRequest`].
    MakeDirRequest = 36,
    /// [`file::RemoveRequest`].
    RemoveRequest = 37,
    /// [`file::RenameRequest`].
    RenameRequest = 38,
    /// Empty: what was asked for is done.
    FileDone = 39,
    /// [`copy::PullRequest`].
    PullRequest = 40,
    /// [`copy::PushRequest`].
    PushRequest = 41,
    /// [`copy::Entry`].
    CopyEntry = 42,
    /// Raw bytes of the file whose entry came last.
    CopyData = 43,
    /// [`copy::Totals`]: the source has been sent whole.
    CopyEnd = 44,
    /// [`copy::Totals`]: the destination is in place.
    CopyDone = 45,

    /// [`session::SessionStartRequest`].
    SessionStartRequest = 64,
    /// [`session::SessionStarted`].
    SessionStarted = 65,
    /// [`session::SessionAttachRequest`].
    SessionAttachRequest = 66,
    /// [`session::SessionAttached`].
    SessionAttached = 67,
    /// [`session::SessionChunk`].
    SessionChunk = 68,
    /// [`session::SessionAck`].
    SessionAck = 69,
    /// [`session::SessionInputTaken`].
    SessionInputTaken = 70,
    /// [`session::SessionEnd`].
    SessionEnd = 71,
    /// [`session::SessionSignalRequest`].
    SessionSignalRequest = 72,
    /// [`session::SessionResizeRequest`].
    SessionResizeRequest = 73,
    /// Empty: what was asked of the session is done.
    SessionDone = 74,
    /// [`session::SessionWaitRequest`].
    SessionWaitRequest = 75,
    /// Empty.
    SessionsRequest = 76,
    /// [`session::Sessions`].
    Sessions = 77,

    /// [`batch::BatchRequest`].
    BatchRequest = 80,
    /// [`batch::Batch`].
    Batch = 81,

    /// [`forward::ForwardRequest`].
    ForwardRequest = 112,
    /// Empty: the connection asked for is there, and this one carries it from now on.
    ForwardConnected = 113,
    /// Raw bytes of a carried connection.
    ForwardBytes = 114,
    /// Empty: the sender's side of the carried connection sends no more.
    ForwardEnd = 115,
    /// [`forward::ForwardListenRequest`].
    ForwardListenRequest = 116,
    /// [`forward::ForwardListening`].
    ForwardListening = 117,
    /// [`forward::ForwardIncoming`].
    ForwardIncoming = 118,
    /// [`forward::ForwardDecline`].
    ForwardDecline = 119,
    /// [`forward::ForwardTakeRequest`].
    ForwardTakeRequest = 120,
    /// Empty.
    PortsRequest = 121,
    /// [`forward::Ports`].
    Ports = 122,

    /// [`sync::TreeRequest`].
    TreeRequest = 128,
    /// [`sync::TreeItems`].
    TreeItems = 129,
    /// [`sync::TreeEnd`].
    TreeEnd = 130,
    /// [`sync::FetchRequest`].
    FetchRequest = 131,
    /// [`sync::AmendRequest`].
    AmendRequest = 132,
    /// [`sync::AmendDone`].
    AmendDone = 133,

    /// [`snapshot::SnapshotPrepareRequest`].
    SnapshotPrepareRequest = 144,
    /// [`snapshot::SnapshotPrepared`].
    SnapshotPrepared = 145,
    /// Empty: the save is over, well or badly; go on.
    SnapshotThawRequest = 146,
    /// [`snapshot::SnapshotThawed`].
    SnapshotThawed = 147,
    /// [`snapshot::SnapshotRestoreRequest`].
    SnapshotRestoreRequest = 148,
    /// [`snapshot::SnapshotRestored`].
    SnapshotRestored = 149,

    /// [`clock::ClockRequest`].
    ClockRequest = 160,
    /// Empty: the clock is set.
    ClockDone = 161,
}
