//! How much of the program's output may move, and who reads it: pure, without descriptors or clocks.
//!
//! ```text
//!        oldest            acknowledged            sent          end
//!  ────────┼──────────────────────┼──────────────────┼────────────┼───► sequence
//!  dropped │◄──────────────────────── at most TAIL ──────────────►│
//! ```
//!
//! `oldest` follows from `end`, so nothing needs to be remembered across the agent's death. While a subscriber advances,
//! `end` stays within [`TAIL`] of what it acknowledged, and the program waits. It waits for the first to come as well. Whoever
//! stands still, or does not come, counts as absent until they acknowledge or subscribe.

use firstlight_protocol::message::output::{Position, Stream};

/// Bytes kept of each stream. The program waits, or loses its oldest bytes, when a reader is further behind.
pub const TAIL: u64 = 1 << 20;

/// Who subscribed: a later one has a higher number and takes the earlier one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Subscription(u64);

/// A position that the streams have not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("position {asked} of {} is past its end at {end}", .stream.name())]
pub struct PastEnd {
    stream: Stream,
    asked: u64,
    end: u64,
}

/// The state of both streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    stdout: StreamFlow,
    stderr: StreamFlow,
    subscriber: Option<Subscription>,
    /// Whether the subscriber has been told where the streams ended.
    told_end: bool,
    last: Subscription,
}

/// The state of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StreamFlow {
    end: u64,
    acknowledged: u64,
    ended: bool,
    stalled: bool,
}

/// Both streams, for loops.
pub const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

/// The part of a position that concerns one stream.
#[must_use]
pub fn part(position: Position, stream: Stream) -> u64 {
    match stream {
        Stream::Stdout => position.stdout,
        Stream::Stderr => position.stderr,
    }
}

impl Flow {
    /// Streams that have `end` behind them, read by nobody yet.
    #[must_use]
    pub fn new(end: Position) -> Flow {
        let stream = |end| StreamFlow { end, acknowledged: 0, ended: false, stalled: false };
        Flow {
            stdout: stream(end.stdout),
            stderr: stream(end.stderr),
            subscriber: None,
            told_end: false,
            last: Subscription::default(),
        }
    }

    fn stream(&self, stream: Stream) -> &StreamFlow {
        match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        }
    }

    fn stream_mut(&mut self, stream: Stream) -> &mut StreamFlow {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Where the streams are.
    #[must_use]
    pub fn end(&self) -> Position {
        Position { stdout: self.stdout.end, stderr: self.stderr.end }
    }

    /// The oldest byte of a stream that is kept.
    #[must_use]
    pub fn oldest(&self, stream: Stream) -> u64 {
        self.stream(stream).end.saturating_sub(TAIL)
    }

    /// Bytes the program may write to a stream before it has to wait; `u64::MAX` when nobody reads any more. The first to
    /// read hears of a program only when it has started, and is waited for as one who stands still.
    #[must_use]
    pub fn room(&self, stream: Stream) -> u64 {
        let flow = self.stream(stream);
        let gone = self.subscriber.is_none() && self.last != Subscription::default();
        if gone || flow.stalled {
            return u64::MAX;
        }
        (flow.acknowledged + TAIL).saturating_sub(flow.end)
    }

    /// `count` bytes more of a stream are kept.
    pub fn moved(&mut self, stream: Stream, count: u64) {
        self.stream_mut(stream).end += count;
    }

    /// Nobody can write to a stream any more.
    pub fn finish(&mut self, stream: Stream) {
        self.stream_mut(stream).ended = true;
    }

    /// Whether both streams have ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.stdout.ended && self.stderr.ended
    }

    /// The subscriber has not made room in a stream for too long.
    pub fn stall(&mut self, stream: Stream) {
        self.stream_mut(stream).stalled = true;
    }

    /// Whether somebody subscribes.
    #[must_use]
    pub fn has_subscriber(&self) -> bool {
        self.subscriber.is_some()
    }

    /// Whether this subscription has not been taken over by another.
    #[must_use]
    pub fn is_current(&self, subscription: Subscription) -> bool {
        self.subscriber == Some(subscription)
    }

    /// Whether the host has written down everything there was so far.
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        STREAMS.iter().all(|stream| self.stream(*stream).acknowledged >= self.stream(*stream).end)
    }

    /// The subscriber has been told where the streams ended.
    pub fn tell_end(&mut self, subscription: Subscription) {
        if self.is_current(subscription) {
            self.told_end = true;
        }
    }

    /// Whether nothing is left to do for the host: it has everything, and whoever listens knows that it was
    /// everything.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.has_ended() && self.is_acknowledged() && (self.told_end || self.subscriber.is_none())
    }

    /// Somebody reads from `from` on, which says what they have written down; an earlier subscriber does no more.
    ///
    /// # Errors
    /// [`PastEnd`], and nothing changes.
    pub fn subscribe(&mut self, from: Position) -> Result<Subscription, PastEnd> {
        self.check(from)?;
        for stream in STREAMS {
            let oldest = self.oldest(stream);
            let flow = self.stream_mut(stream);
            flow.acknowledged = part(from, stream).max(oldest);
            flow.stalled = false;
        }
        self.last = Subscription(self.last.0 + 1);
        self.subscriber = Some(self.last);
        self.told_end = false;
        Ok(self.last)
    }

    /// The subscriber went away.
    pub fn unsubscribe(&mut self, subscription: Subscription) {
        if self.is_current(subscription) {
            self.subscriber = None;
        }
    }

    /// The subscriber has written down everything before `position`. Going back changes nothing.
    ///
    /// # Errors
    /// [`PastEnd`], and nothing changes.
    pub fn acknowledge(&mut self, subscription: Subscription, position: Position) -> Result<(), PastEnd> {
        self.check(position)?;
        for stream in STREAMS {
            let flow = self.stream_mut(stream);
            if flow.acknowledged < part(position, stream) && self.subscriber == Some(subscription) {
                let flow = self.stream_mut(stream);
                flow.acknowledged = part(position, stream);
                flow.stalled = false;
            }
        }
        Ok(())
    }

    fn check(&self, position: Position) -> Result<(), PastEnd> {
        for stream in STREAMS {
            let (asked, end) = (part(position, stream), self.stream(stream).end);
            if asked > end {
                return Err(PastEnd { stream, asked, end });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(stdout: u64) -> Position {
        Position { stdout, stderr: 0 }
    }

    fn full() -> (Flow, Subscription) {
        let mut flow = Flow::new(Position::default());
        let subscription = flow.subscribe(Position::default()).unwrap();
        flow.moved(Stream::Stdout, TAIL);
        (flow, subscription)
    }

    #[test]
    fn a_program_that_is_ahead_of_its_first_reader_waits_until_that_reader_counts_as_absent() {
        let mut flow = Flow::new(Position::default());
        flow.moved(Stream::Stdout, TAIL);
        assert_eq!((flow.room(Stream::Stdout), flow.oldest(Stream::Stdout)), (0, 0));
        let mut patient = flow.clone();
        flow.stall(Stream::Stdout);
        assert_eq!(flow.room(Stream::Stdout), u64::MAX);
        patient.subscribe(Position::default()).unwrap();
        assert_eq!(patient.room(Stream::Stdout), 0, "nothing is written down yet");
    }

    #[test]
    fn once_its_reader_has_gone_the_program_never_waits() {
        let mut flow = Flow::new(Position::default());
        let reader = flow.subscribe(Position::default()).unwrap();
        flow.unsubscribe(reader);
        flow.moved(Stream::Stdout, 10 * TAIL);
        assert_eq!(flow.room(Stream::Stdout), u64::MAX);
        assert_eq!(flow.oldest(Stream::Stdout), 9 * TAIL);
    }

    #[test]
    fn with_a_reader_the_program_waits_for_acknowledgements() {
        let (mut flow, subscription) = full();
        assert_eq!(flow.room(Stream::Stdout), 0);
        assert_eq!(flow.room(Stream::Stderr), TAIL);
        flow.acknowledge(subscription, at(100)).unwrap();
        assert_eq!(flow.room(Stream::Stdout), 100);
    }

    #[test]
    fn a_reader_that_stands_still_is_absent_until_it_advances() {
        let (mut flow, subscription) = full();
        flow.stall(Stream::Stdout);
        assert_eq!(flow.room(Stream::Stdout), u64::MAX);
        flow.acknowledge(subscription, at(0)).unwrap();
        assert_eq!(flow.room(Stream::Stdout), u64::MAX);
        flow.acknowledge(subscription, at(1)).unwrap();
        assert_eq!(flow.room(Stream::Stdout), 1);
    }

    #[test]
    fn a_second_reader_takes_the_first_one_s_place() {
        let (mut flow, first) = full();
        let second = flow.subscribe(at(7)).unwrap();
        assert!(!flow.is_current(first) && flow.is_current(second));
        flow.acknowledge(first, at(500)).unwrap();
        assert_eq!(flow.room(Stream::Stdout), 7);
        flow.unsubscribe(first);
        assert!(flow.has_subscriber());
        flow.unsubscribe(second);
        assert_eq!(flow.room(Stream::Stdout), u64::MAX);
    }

    #[test]
    fn a_reader_far_behind_gets_the_oldest_and_no_endless_wait() {
        let mut flow = Flow::new(at(5 * TAIL));
        let subscription = flow.subscribe(Position::default()).unwrap();
        assert_eq!(flow.room(Stream::Stdout), 0);
        flow.acknowledge(subscription, at(4 * TAIL + 1)).unwrap();
        assert_eq!(flow.room(Stream::Stdout), 1);
    }

    #[test]
    fn positions_that_were_never_reached_are_refused() {
        let (mut flow, subscription) = full();
        let error = flow.acknowledge(subscription, at(TAIL + 1)).unwrap_err();
        assert_eq!(error.to_string(), "position 1048577 of stdout is past its end at 1048576");
        assert!(flow.subscribe(Position { stdout: 0, stderr: 1 }).is_err());
    }

    #[test]
    fn a_host_that_has_everything_and_knows_it_frees_the_vm() {
        let (mut flow, subscription) = full();
        flow.finish(Stream::Stdout);
        assert!(!flow.has_ended());
        flow.finish(Stream::Stderr);
        assert!(flow.has_ended() && !flow.is_acknowledged());
        flow.acknowledge(subscription, flow.end()).unwrap();
        assert!(flow.is_acknowledged() && !flow.is_settled());
        flow.tell_end(subscription);
        assert!(flow.is_settled());
    }

    proptest! {
        #[test]
        fn an_advancing_reader_never_meets_a_gap(steps in proptest::collection::vec((any::<bool>(), 0..TAIL), 0..200)) {
            let mut flow = Flow::new(Position::default());
            let subscription = flow.subscribe(Position::default()).unwrap();
            let mut acknowledged = 0;
            for (acknowledges, amount) in steps {
                if acknowledges {
                    acknowledged = (acknowledged + amount).min(flow.end().stdout);
                    flow.acknowledge(subscription, at(acknowledged)).unwrap();
                } else {
                    flow.moved(Stream::Stdout, amount.min(flow.room(Stream::Stdout)));
                }
                prop_assert!(flow.oldest(Stream::Stdout) <= acknowledged);
            }
        }
    }
}
