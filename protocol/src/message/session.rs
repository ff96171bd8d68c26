//! Sessions: commands whose output the agent keeps, so that whoever asked for one may leave and come back.
//!
//! A session's output is one sequence of bytes, those of both streams in the order the agent took them. A reader says how
//! far it has come ([`SessionAck`]); what was overwritten before it could be read shows as a gap between two chunks, never
//! as silence. Standard input is `Stdin` and `StdinEnd` frames, at most [`INPUT_WINDOW`] bytes ahead of what
//! [`SessionInputTaken`] says, so that no frame ever waits behind input that the command does not read.

use super::exec::{ExecOutcome, ExecRequest};
use super::output::Stream;

/// How many bytes of standard input may be under way: sent, and not yet taken by the command.
pub const INPUT_WINDOW: u64 = 128 * 1024;

/// Most bytes of a command line in [`Session::argv`]; the rest is left out.
pub const MAX_SHOWN: usize = 512;

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Window {
    /// Lines.
    pub rows: u16,
    /// Characters in each.
    pub columns: u16,
}

/// Start a command. Unless it is detached the connection then belongs to it, until [`SessionEnd`] and its
/// acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SessionStartRequest {
    /// The command.
    pub command: ExecRequest,
    /// A terminal of this size takes the place of the three standard streams.
    pub terminal: Option<Window>,
    /// Nobody reads for now: the command never waits for a reader, and its input stays open without a writer.
    pub detached: bool,
}

/// Which session, among all that this guest's agents have had: an agent that was started anew counts from 1 again, but at
/// another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, bincode::Encode, bincode::Decode)]
pub struct SessionKey {
    /// Its number.
    pub id: u64,
    /// When it started, in nanoseconds of the guest's `CLOCK_BOOTTIME`.
    pub started_ns: u64,
}

/// The command's `execve` succeeded.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SessionStarted {
    /// Which session it is.
    pub key: SessionKey,
    /// Its process id in the guest, which is also its process group's.
    pub pid: u32,
}

/// Read a session's output and write its input. The connection then belongs to it, as after a start.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SessionAttachRequest {
    /// Which session.
    pub id: u64,
    /// Where to begin; `None` is the oldest byte kept.
    pub from: Option<u64>,
    /// The command waits for one reader at a time. Whether to become that reader although there is another; otherwise one
    /// becomes it when there is none.
    pub take_over: bool,
}

/// The attachment stands.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SessionAttached {
    /// Which session it is.
    pub key: SessionKey,
    /// Bytes of input that the agent has had so far.
    pub input: u64,
    /// Whether the command takes input.
    pub takes_input: bool,
    /// Whether it runs on a terminal.
    pub terminal: bool,
}

/// Bytes of one stream.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SessionChunk {
    /// Which stream; a terminal's output is standard output.
    pub stream: Stream,
    /// Bytes of the session's output before this chunk. Higher than the end of the chunk before it when bytes were
    /// overwritten.
    pub sequence: u64,
    /// The bytes, at most [`super::exec::MAX_CHUNK`].
    pub bytes: Vec<u8>,
}

/// A [`SessionChunk`] whose bytes are somebody else's: the same on the wire.
#[derive(Debug, bincode::Encode)]
pub struct SessionChunkRef<'a> {
    /// As [`SessionChunk::stream`].
    pub stream: Stream,
    /// As [`SessionChunk::sequence`].
    pub sequence: u64,
    /// As [`SessionChunk::bytes`].
    pub bytes: &'a [u8],
}

/// The host has everything before this position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SessionAck {
    /// The position.
    pub through: u64,
    /// Whether it has [`SessionEnd`] too. That is the last frame; the connection then serves other requests.
    pub end: bool,
}

/// Bytes of input that the command's pipe or terminal has taken since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SessionInputTaken {
    /// How many.
    pub bytes: u64,
}

/// The command ended, or never started.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SessionEnd {
    /// Bytes of output it had in all.
    pub sequence: u64,
    /// How it ended.
    pub outcome: ExecOutcome,
}

/// Signal a session, whoever reads it. On a connection of its own, so that it waits for nothing.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SessionSignalRequest {
    /// Which session.
    pub id: u64,
    /// The guest's signal number, 1 to 64. SIGKILL ends every process of the session, wherever it went; others go to the
    /// command's process group and, on a terminal, to the one in its foreground.
    pub number: u8,
}

/// Change the size of a session's terminal.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SessionResizeRequest {
    /// Which session.
    pub id: u64,
    /// The new size.
    pub window: Window,
}

/// Tell when a session ends: [`SessionEnd`] is the answer.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct SessionWaitRequest {
    /// Which session.
    pub id: u64,
}

/// Every session the agent knows, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Sessions {
    /// The sessions.
    pub sessions: Vec<Session>,
}

/// What there is to say of a session.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Session {
    /// Which it is.
    pub key: SessionKey,
    /// The command's process id in the guest.
    pub pid: u32,
    /// The command line, cut after [`MAX_SHOWN`] bytes.
    pub argv: Vec<Vec<u8>>,
    /// Nanoseconds since it started.
    pub age_ns: u64,
    /// Whether it was started without a reader.
    pub detached: bool,
    /// Whether it runs on a terminal.
    pub terminal: bool,
    /// Connections that read it now.
    pub readers: u32,
    /// The oldest byte of output that is kept.
    pub oldest: u64,
    /// Bytes of output it has had.
    pub sequence: u64,
    /// How it ended, once it has.
    pub outcome: Option<ExecOutcome>,
}
