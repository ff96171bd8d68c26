//! A session's output, its readers and its end: pure, without descriptors or clocks.
//!
//! The command waits for at most one reader, the *holder*: no byte that it has not acknowledged goes. Every other reader
//! takes what it finds, and sees a gap where it was too slow. A holder that goes away keeps its place for a while
//! (`Session` counts the time), so that one whose connection broke finds everything when it comes back. After that the
//! place is that of whoever else is attached: a client that was killed may be noticed later than the one that came for it.

use std::collections::BTreeMap;

use firstlight_protocol::message::exec::ExecOutcome;
use firstlight_protocol::message::output::Stream;

use super::budget::Budget;
use super::ring::Ring;

/// Who attached: a later one has a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct ReaderId(u64);

/// A position that the output has not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("position {asked} is past the end of the output at {end}")]
pub(crate) struct PastEnd {
    asked: u64,
    end: u64,
}

/// The reader that the command waits for.
#[derive(Debug, Clone, Copy)]
struct Holder {
    reader: ReaderId,
    acknowledged: u64,
}

/// All there is to know of a session's output.
#[derive(Debug)]
pub(super) struct Log {
    ring: Ring,
    holder: Option<Holder>,
    /// Who is attached, with what it has acknowledged.
    attached: BTreeMap<ReaderId, u64>,
    last: ReaderId,
    outcome: Option<ExecOutcome>,
    finished: bool,
}

impl Log {
    pub(super) fn new(budget: Budget) -> Log {
        Log {
            ring: Ring::new(budget),
            holder: None,
            attached: BTreeMap::new(),
            last: ReaderId::default(),
            outcome: None,
            finished: false,
        }
    }

    /// The oldest byte that is kept.
    pub(super) fn oldest(&self) -> u64 {
        self.ring.oldest()
    }

    /// Bytes there have been.
    pub(super) fn end(&self) -> u64 {
        self.ring.end()
    }

    /// Readers that are attached.
    pub(super) fn readers(&self) -> u32 {
        self.attached.len().try_into().unwrap_or(u32::MAX)
    }

    /// How the command ended, once it has. There may be output to come.
    pub(super) fn outcome(&self) -> Option<&ExecOutcome> {
        self.outcome.as_ref()
    }

    /// Whether there will be no more output.
    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// The command ended.
    pub(super) fn end_with(&mut self, outcome: ExecOutcome) {
        self.outcome = Some(outcome);
    }

    /// There will be no more output.
    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// Bytes before this may go.
    fn expendable(&self) -> u64 {
        self.holder.map_or(u64::MAX, |holder| holder.acknowledged)
    }

    /// Whether another byte of output may come.
    pub(super) fn has_room(&self) -> bool {
        self.ring.has_room(self.expendable())
    }

    /// Lets `write` add bytes of a stream; `None` when there is no room after all.
    pub(super) fn fill<E>(
        &mut self,
        stream: Stream,
        write: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Option<usize>, E> {
        self.ring.fill(stream, self.expendable(), write)
    }

    /// Bytes at `sequence`, or at the oldest kept byte after it: where they really begin, their stream, and themselves.
    pub(super) fn read(&self, sequence: u64, most: usize) -> Option<(u64, Stream, &[u8])> {
        let from = sequence.max(self.ring.oldest());
        self.ring.read(from, most).map(|(stream, bytes)| (from, stream, bytes))
    }

    /// A reader comes, to read from `from` on. It becomes the holder if there is none, or if it takes over.
    ///
    /// # Errors
    /// [`PastEnd`], and nothing changes.
    pub(super) fn attach(&mut self, from: Option<u64>, take_over: bool) -> Result<(ReaderId, u64), PastEnd> {
        let from = from.unwrap_or(self.oldest());
        self.check(from)?;
        self.last = ReaderId(self.last.0 + 1);
        let is_held = self.holder.is_some_and(|holder| self.attached.contains_key(&holder.reader));
        if take_over || !is_held {
            self.holder = Some(Holder { reader: self.last, acknowledged: from });
        }
        self.attached.insert(self.last, from);
        Ok((self.last, from))
    }

    /// A reader has everything before `through`. Going back changes nothing.
    ///
    /// # Errors
    /// [`PastEnd`], and nothing changes.
    pub(super) fn acknowledge(&mut self, reader: ReaderId, through: u64) -> Result<(), PastEnd> {
        self.check(through)?;
        if let Some(acknowledged) = self.attached.get_mut(&reader) {
            *acknowledged = through.max(*acknowledged);
        }
        if let Some(holder) = self.holder.as_mut().filter(|holder| holder.reader == reader) {
            holder.acknowledged = holder.acknowledged.max(through);
        }
        Ok(())
    }

    /// A reader went away. If it was the holder it keeps its place until [`Log::give_up`].
    pub(super) fn detach(&mut self, reader: ReaderId) {
        self.attached.remove(&reader);
    }

    /// A reader that went away has not come back in time. If it was the holder, the one that has been attached longest is
    /// now.
    pub(super) fn give_up(&mut self, reader: ReaderId) {
        if self.holder.is_some_and(|holder| holder.reader == reader) && !self.attached.contains_key(&reader) {
            let next = self.attached.first_key_value();
            self.holder = next.map(|(&reader, &acknowledged)| Holder { reader, acknowledged });
        }
    }

    /// Forgets the output, and keeps the end.
    pub(super) fn clear(&mut self) {
        self.ring.clear();
    }

    fn check(&self, position: u64) -> Result<(), PastEnd> {
        let end = self.end();
        if position > end { Err(PastEnd { asked: position, end }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ring::MAX_BYTES;
    use super::*;

    fn log() -> Log {
        Log::new(Budget::new(MAX_BYTES))
    }

    /// Writes as long as there is room, but no more than ten rings; gives how many bytes that was.
    fn flood(log: &mut Log) -> usize {
        let mut total = 0;
        while log.has_room() && total < 10 * MAX_BYTES {
            total += log.fill(Stream::Stdout, |free| Ok::<usize, ()>(free.len())).unwrap().unwrap();
        }
        total
    }

    #[test]
    fn without_a_reader_the_command_never_waits() {
        let mut log = log();
        assert!(flood(&mut log) >= 10 * MAX_BYTES);
        assert!(log.end() - log.oldest() <= MAX_BYTES as u64);
    }

    #[test]
    fn the_command_waits_for_its_holder_and_for_nobody_else() {
        let mut log = log();
        let (holder, _) = log.attach(None, false).unwrap();
        let (other, _) = log.attach(None, false).unwrap();
        assert_eq!(flood(&mut log), MAX_BYTES);
        log.acknowledge(other, MAX_BYTES as u64).unwrap();
        assert!(!log.has_room());
        log.acknowledge(holder, 1).unwrap();
        assert!(log.has_room());
        assert_eq!(log.read(0, 10).unwrap().0, 0);
    }

    #[test]
    fn a_holder_that_goes_keeps_its_place_until_it_is_given_up() {
        let mut log = log();
        let (first, _) = log.attach(None, false).unwrap();
        flood(&mut log);
        log.detach(first);
        assert!(!log.has_room());
        let (second, from) = log.attach(Some(100), true).unwrap();
        assert_eq!(from, 100);
        // The first one's time is up, and the place is not its any more.
        log.give_up(first);
        assert_eq!(flood(&mut log), 100);
        log.detach(second);
        log.give_up(second);
        assert!(log.has_room());
    }

    #[test]
    fn whoever_is_attached_longest_inherits_the_place() {
        let mut log = log();
        let (first, _) = log.attach(None, false).unwrap();
        assert_eq!(flood(&mut log), MAX_BYTES);
        let (second, _) = log.attach(Some(7), false).unwrap();
        let (third, _) = log.attach(Some(9), false).unwrap();
        log.acknowledge(second, 20).unwrap();
        log.detach(first);
        // Until its time is up the first one may come back and find everything.
        assert!(!log.has_room());
        log.give_up(first);
        assert_eq!(flood(&mut log), 20);
        log.detach(second);
        log.detach(third);
        log.give_up(third);
        assert!(!log.has_room());
        log.give_up(second);
        assert!(log.has_room());
    }

    #[test]
    fn a_reader_that_takes_over_leaves_the_other_reading() {
        let mut log = log();
        let (first, _) = log.attach(None, false).unwrap();
        let (second, _) = log.attach(None, true).unwrap();
        assert_eq!((flood(&mut log), log.readers()), (MAX_BYTES, 2));
        log.acknowledge(first, 5).unwrap();
        assert!(!log.has_room());
        log.acknowledge(second, 5).unwrap();
        assert!(log.has_room());
    }

    #[test]
    fn a_reader_that_was_too_slow_goes_on_with_the_oldest_byte_there_is() {
        let mut log = log();
        flood(&mut log);
        let oldest = log.oldest();
        assert!(oldest > 0);
        assert_eq!(log.read(3, 10).map(|(from, _, bytes)| (from, bytes.len())), Some((oldest, 10)));
    }

    #[test]
    fn positions_that_were_never_reached_are_refused() {
        let mut log = log();
        let error = log.attach(Some(1), false).unwrap_err();
        assert_eq!(error.to_string(), "position 1 is past the end of the output at 0");
        assert_eq!(log.readers(), 0);
    }
}
