//! One connection as the policy sees it.

use super::{Moment, Ticket};
use crate::agent::connection_pool::error::Poison;
use crate::agent::connection_pool::key::Key;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) key: Key,
    pub(super) phase: Phase,
    pub(super) expires: Moment,
    pub(super) fresh: bool,
    /// The larger, the more recently used.
    pub(super) last_use: u64,
}

#[derive(Debug)]
pub(super) enum Phase {
    Dialing { callers: Vec<Ticket> },
    Open { holders: usize, poison: Option<Poison> },
    Closing,
}

impl Connection {
    /// Whether nobody holds it and nobody may come to.
    pub(super) fn spent(&self) -> bool {
        !self.fresh && self.unheld()
    }

    /// Whether somebody may come to hold it and nobody does.
    pub(super) fn idle(&self) -> bool {
        self.fresh && self.unheld()
    }

    pub(super) fn unheld(&self) -> bool {
        matches!(self.phase, Phase::Open { holders: 0, .. })
    }

    pub(super) fn closing(&self) -> bool {
        matches!(self.phase, Phase::Closing)
    }

    /// How many wait for its dial.
    pub(super) fn callers(&self) -> usize {
        match &self.phase {
            Phase::Dialing { callers } => callers.len(),
            Phase::Open { .. } | Phase::Closing => 0,
        }
    }

    /// Takes a caller off a dial; `false` when it is not on it.
    pub(super) fn forget(&mut self, ticket: Ticket) -> bool {
        let Phase::Dialing { callers } = &mut self.phase else { return false };
        let before = callers.len();
        callers.retain(|caller| *caller != ticket);
        callers.len() < before
    }
}
