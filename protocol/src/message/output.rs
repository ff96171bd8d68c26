//! The program's output, streamed to the monitor.
//!
//! Each stream has a sequence number: the count of bytes the program has written to it before. The agent keeps the
//! tail of each; a host that comes back says where it was. What was overwritten meanwhile shows as a gap between two
//! chunks, never as silence.

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, bincode::Encode, bincode::Decode)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// `stdout` or `stderr`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// A position in both streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub struct Position {
    /// Bytes of standard output before it.
    pub stdout: u64,
    /// Bytes of standard error before it.
    pub stderr: u64,
}

/// Stream the program's output from here on. The connection then belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct OutputRequest {
    /// Where to begin.
    pub from: Position,
}

/// Bytes of one stream.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct OutputChunk {
    /// Which stream.
    pub stream: Stream,
    /// Bytes of it before this chunk. Higher than the end of the chunk before it when bytes were overwritten.
    pub sequence: u64,
    /// The bytes, at most [`super::exec::MAX_CHUNK`].
    pub bytes: Vec<u8>,
}

/// The host has written down everything before this position.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct OutputAck {
    /// The position.
    pub written: Position,
}

/// Both streams ended: no process of the guest can write to them any more. Once the host has acknowledged this position
/// the VM may go.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct OutputEnd {
    /// Where they ended.
    pub end: Position,
}
