//! Decompression of a bundle's gzip members, one after the other.
//!
//! Only the core of a decompressor is linked: the members' headers are known to the byte, and their CRC is not looked at,
//! because a SHA-256 over the compressed bytes says more.

use std::io::{Error, ErrorKind, Read, Result};

use firstlight_protocol::headers::{Digest, GZIP_HEADER, GZIP_TRAILER};
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};
use sha2::{Digest as _, Sha256};

/// Bytes read at a time. The first read should not take more than it has to, so it is no more than a few sectors.
const CHUNK: usize = 16 << 10;
const FIRST_CHUNK: usize = 2 << 10;

/// A member of `source` as what was compressed in it; reads end at the member's end.
pub(super) struct Inflate<R> {
    source: R,
    chunk: Box<[u8; CHUNK]>,
    /// What of `chunk` is not taken yet.
    start: usize,
    end: usize,
    state: Box<InflateState>,
    ended: bool,
    hash: Sha256,
    taken: u64,
}

impl<R: Read> Inflate<R> {
    /// At the first member of `source`.
    pub(super) fn new(source: R) -> Result<Inflate<R>> {
        let mut inflate = Inflate {
            source,
            chunk: Box::new([0; CHUNK]),
            start: 0,
            end: 0,
            state: InflateState::new_boxed(DataFormat::Raw),
            ended: false,
            hash: Sha256::new(),
            taken: 0,
        };
        inflate.fill(FIRST_CHUNK)?;
        inflate.next_member()?;
        Ok(inflate)
    }

    /// Goes on to the next member, once this one was read to its end.
    pub(super) fn next_member(&mut self) -> Result<()> {
        self.state.reset(DataFormat::Raw);
        self.ended = false;
        self.hash = Sha256::new();
        self.taken = 0;
        let mut header = [0; GZIP_HEADER.len()];
        self.take_exact(&mut header)?;
        if header == GZIP_HEADER { Ok(()) } else { Err(invalid()) }
    }

    /// Bytes of this member so far, compressed, and their digest.
    pub(super) fn taken(&self) -> (u64, Digest) {
        (self.taken, Digest(self.hash.clone().finalize().into()))
    }

    fn take_exact(&mut self, out: &mut [u8]) -> Result<()> {
        for byte in out {
            if self.start == self.end {
                self.fill(CHUNK)?;
            }
            *byte = self.chunk.get(self.start).copied().unwrap_or_default();
            self.consume(1);
        }
        Ok(())
    }

    fn consume(&mut self, count: usize) {
        let until = (self.start + count).min(self.end);
        self.hash.update(self.chunk.get(self.start..until).unwrap_or_default());
        self.taken += (until - self.start) as u64;
        self.start = until;
    }

    /// Reads more of the source, of which everything is taken.
    fn fill(&mut self, most: usize) -> Result<()> {
        let room = self.chunk.get_mut(..most).unwrap_or_default();
        (self.start, self.end) = (0, self.source.read(room)?);
        if self.end == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

impl<R: Read> Read for Inflate<R> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        while !self.ended && !out.is_empty() {
            if self.start == self.end {
                self.fill(CHUNK)?;
            }
            let input = self.chunk.get(self.start..self.end).unwrap_or_default();
            let step = inflate(&mut self.state, input, out, MZFlush::None);
            self.consume(step.bytes_consumed);
            match step.status {
                Ok(MZStatus::StreamEnd) => {
                    self.ended = true;
                    self.take_exact(&mut [0; GZIP_TRAILER])?;
                    return Ok(step.bytes_written);
                }
                Ok(_) if step.bytes_written > 0 => return Ok(step.bytes_written),
                Ok(_) if step.bytes_consumed > 0 => {}
                // It wants more input than this chunk had.
                Err(MZError::Buf) if self.start == self.end => {}
                Ok(_) | Err(_) => return Err(invalid()),
            }
        }
        Ok(0)
    }
}

fn invalid() -> Error {
    ErrorKind::InvalidData.into()
}
