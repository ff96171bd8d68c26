//! What happens by itself, and when.

use std::collections::BTreeSet;

use super::{MemberId, Moment, Ticket};

/// Something that happens by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A caller has waited long enough.
    Deadline(Ticket),
    /// A lease ends.
    Lease(MemberId),
    /// A VM is too old to be handed out.
    Age(MemberId),
    /// A failed make may be tried again. The number tells it from others of the same instant.
    Hold(u64),
    /// A failed destruction may be tried again.
    Destroy(MemberId),
}

/// All alarms, soonest first. At most one for each caller, and a few for each VM.
#[derive(Debug, Default)]
pub(super) struct Agenda(BTreeSet<(Moment, Alarm)>);

impl Agenda {
    pub(super) fn set(&mut self, at: Moment, alarm: Alarm) {
        self.0.insert((at, alarm));
    }

    pub(super) fn clear(&mut self, at: Moment, alarm: Alarm) {
        self.0.remove(&(at, alarm));
    }

    pub(super) fn first(&self) -> Option<Moment> {
        self.0.first().map(|(at, _)| *at)
    }

    /// The next alarm that is due.
    pub(super) fn due(&mut self, now: Moment) -> Option<Alarm> {
        let (at, alarm) = *self.0.first()?;
        (at <= now).then(|| {
            self.0.pop_first();
            alarm
        })
    }
}
