//! Protocol generations, and how two ends agree on one.
//!
//! A VM restored from a snapshot runs the agent it was saved with, so the host speaks a *range* and the agent
//! answers with the highest generation both know. Message kinds are append-only; see [`crate::message`].

/// A generation of the host-agent protocol.
pub type Version = u16;

/// The newest generation this build speaks.
pub const CURRENT: Version = 1;

/// The oldest generation this build still speaks.
pub const OLDEST: Version = 1;

/// The generations one end speaks, both bounds included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Range {
    /// The oldest.
    pub oldest: Version,
    /// The newest.
    pub newest: Version,
}

/// What this build speaks.
pub const SUPPORTED: Range = Range { oldest: OLDEST, newest: CURRENT };

impl Range {
    /// The highest generation in both ranges, or `None` when they do not meet.
    #[must_use]
    pub fn agree(self, other: Range) -> Option<Version> {
        let newest = self.newest.min(other.newest);
        let oldest = self.oldest.max(other.oldest);
        (oldest <= newest).then_some(newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_generation_wins() {
        let old_agent = Range { oldest: 1, newest: 3 };
        let new_host = Range { oldest: 2, newest: 5 };
        assert_eq!(new_host.agree(old_agent), Some(3));
        assert_eq!(old_agent.agree(new_host), Some(3));
    }

    #[test]
    fn ranges_that_do_not_meet_have_no_generation() {
        assert_eq!(Range { oldest: 1, newest: 2 }.agree(Range { oldest: 3, newest: 4 }), None);
    }
}
