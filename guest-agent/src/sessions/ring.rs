//! The newest bytes of a session's output, and which stream each came from: pure, without descriptors or clocks.
//!
//! ```text
//!      oldest                                  end
//!  ──────┼───────────────────────────────────────┼───► sequence
//!  gone  │ stdout run │ stderr run │ stdout run  │
//! ```

use std::collections::VecDeque;

use firstlight_protocol::message::output::Stream;

use super::budget::Budget;

/// The most bytes one session keeps. Its command waits, or its oldest bytes go, when a reader is further behind.
pub(super) const MAX_BYTES: usize = 256 * 1024;

/// Bytes that every session may keep, whatever the others have taken of the budget.
pub(super) const FLOOR: usize = 16 * 1024;

/// Changes from one stream to the other that are remembered. A command that alternates after every byte keeps fewer
/// bytes, so that the memory of the changes is bounded too.
const MAX_RUNS: usize = 1024;

/// Bytes forgotten at once, so that a full ring does not cost a system call a byte.
const FORGET: usize = 4 * 1024;

/// Bytes in a row of one stream.
#[derive(Debug, Clone, Copy)]
struct Run {
    stream: Stream,
    length: usize,
}

/// A ring that grows with what is written to it.
#[derive(Debug)]
pub(super) struct Ring {
    storage: Vec<u8>,
    /// Where in the storage the oldest byte is.
    start: usize,
    kept: usize,
    oldest: u64,
    runs: VecDeque<Run>,
    budget: Budget,
}

impl Ring {
    pub(super) fn new(budget: Budget) -> Ring {
        Ring { storage: Vec::new(), start: 0, kept: 0, oldest: 0, runs: VecDeque::new(), budget }
    }

    /// The sequence of the oldest byte kept.
    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// Bytes there have been.
    pub(super) fn end(&self) -> u64 {
        self.oldest + self.kept as u64
    }

    /// Whether another byte would fit, if bytes before `expendable` may go.
    pub(super) fn has_room(&self, expendable: u64) -> bool {
        if self.runs.len() >= MAX_RUNS {
            return self.end_of_first_run() <= expendable;
        }
        !self.is_full() || self.can_grow() || self.oldest < expendable
    }

    /// Lets `write` fill free storage, and takes over the bytes it says it wrote. Of what is kept, only bytes before
    /// `expendable` are given up for that. `None` when there is no room.
    pub(super) fn fill<E>(
        &mut self,
        stream: Stream,
        expendable: u64,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Option<usize>, E> {
        self.make_room(expendable);
        if self.storage.is_empty() || self.is_full() || self.runs.len() >= MAX_RUNS {
            return Ok(None);
        }
        let count = write(self.free())?;
        self.kept += count;
        match self.runs.back_mut().filter(|run| run.stream == stream) {
            Some(run) => run.length += count,
            None if count > 0 => self.runs.push_back(Run { stream, length: count }),
            None => {}
        }
        Ok(Some(count))
    }

    /// The bytes from `sequence` on that are in one piece and of one stream, at most `most`. `None` at the end. The sequence
    /// must not be forgotten.
    pub(super) fn read(&self, sequence: u64, most: usize) -> Option<(Stream, &[u8])> {
        let mut skip = usize::try_from(sequence.checked_sub(self.oldest)?).ok()?;
        let from = (self.start + skip).checked_rem(self.storage.len())?;
        let run = self.runs.iter().find(|run| {
            let inside = skip < run.length;
            skip = skip.saturating_sub(run.length);
            inside
        })?;
        let before: usize = usize::try_from(sequence - self.oldest).ok()?;
        let left_of_run = self.end_of_run(before) - before;
        let length = left_of_run.min(self.storage.len() - from).min(most);
        Some((run.stream, &self.storage[from..from + length]))
    }

    /// Forgets everything, and gives the memory back.
    pub(super) fn clear(&mut self) {
        self.oldest = self.end();
        self.budget.give(self.storage.len().saturating_sub(FLOOR));
        self.storage = Vec::new();
        self.runs = VecDeque::new();
        (self.start, self.kept) = (0, 0);
    }

    /// Where the run ends that the byte at `offset` is in, as an offset too.
    fn end_of_run(&self, offset: usize) -> usize {
        let ends = self.runs.iter().scan(0, |end, run| {
            *end += run.length;
            Some(*end)
        });
        ends.into_iter().find(|end| *end > offset).unwrap_or(self.kept)
    }

    /// The sequence of the byte after the oldest run.
    fn end_of_first_run(&self) -> u64 {
        self.oldest + self.runs.front().map_or(0, |run| run.length) as u64
    }

    fn is_full(&self) -> bool {
        self.kept == self.storage.len()
    }

    fn can_grow(&self) -> bool {
        let size = self.storage.len();
        size == 0 || (size < MAX_BYTES && self.budget.left() >= size)
    }

    /// The free storage after the newest byte, up to where it wraps around.
    fn free(&mut self) -> &mut [u8] {
        let size = self.storage.len();
        let from = (self.start + self.kept) % size;
        let until = if from < self.start { self.start } else { size };
        &mut self.storage[from..until]
    }

    fn make_room(&mut self, expendable: u64) {
        if self.runs.len() >= MAX_RUNS {
            let first = self.runs.front().map_or(0, |run| run.length);
            if self.end_of_first_run() <= expendable {
                self.forget(expendable, first);
            }
            return;
        }
        if self.is_full() {
            self.grow();
        }
        if self.is_full() {
            self.forget(expendable, FORGET);
        }
    }

    /// Doubles the storage, if it may be and there is budget for it.
    fn grow(&mut self) {
        let size = self.storage.len();
        let wanted = (2 * size).clamp(FLOOR, MAX_BYTES);
        if wanted == size || (size >= FLOOR && !self.budget.take(wanted - size)) {
            return;
        }
        let mut storage = vec![0; wanted];
        let (newer, older) = self.storage.split_at(self.start);
        storage[..older.len()].copy_from_slice(older);
        storage[older.len()..size].copy_from_slice(newer);
        (self.storage, self.start) = (storage, 0);
    }

    /// Forgets the `count` oldest bytes, as far as they are before `expendable`.
    fn forget(&mut self, expendable: u64, count: usize) {
        let expendable = usize::try_from(expendable.saturating_sub(self.oldest)).unwrap_or(usize::MAX);
        let count = count.min(expendable).min(self.kept);
        if count == 0 {
            return;
        }
        self.start = (self.start + count) % self.storage.len();
        self.kept -= count;
        self.oldest += count as u64;
        let mut left = count;
        while let Some(run) = self.runs.front_mut().filter(|_| left > 0) {
            let gone = left.min(run.length);
            run.length -= gone;
            left -= gone;
            if run.length == 0 {
                self.runs.pop_front();
            }
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.budget.give(self.storage.len().saturating_sub(FLOOR));
    }
}

#[cfg(test)]
mod tests;
