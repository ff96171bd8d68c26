//! One caller's way through the core: it asks, it waits, and then it holds.

use std::sync::Arc;

use super::core::{Core, Refused};
use super::policy::{ConnectionId, Ticket};

/// One who asked for a connection. Dropping it gives the place, the wait or the connection back.
pub(super) struct Caller<C, F: Clone> {
    core: Arc<Core<C, F>>,
    ticket: Ticket,
}

impl<C, F: Clone> Caller<C, F> {
    pub(super) fn new(core: Arc<Core<C, F>>, ticket: Ticket) -> Caller<C, F> {
        Caller { core, ticket }
    }

    /// Waits for the answer, which is given once. Dropping the future loses nothing.
    pub(super) async fn answer(&self) -> Result<Lease<C, F>, Refused<F>> {
        self.core.answered(self.ticket).await.map(|id| self.lease(id))
    }

    /// The answer of one who waits no longer: what it was waiting for, unless it has come in this moment.
    pub(super) fn give_up(&self) -> Result<Lease<C, F>, Refused<F>> {
        self.core.leave(self.ticket).map(|id| self.lease(id))
    }

    fn lease(&self, id: ConnectionId) -> Lease<C, F> {
        Lease { core: Arc::clone(&self.core), id }
    }
}

impl<C, F: Clone> Drop for Caller<C, F> {
    fn drop(&mut self) {
        // A lease that was granted and never taken is released by its own drop.
        let _ = self.give_up();
    }
}

/// A connection that its holder may use; dropping it gives it back.
pub(super) struct Lease<C, F: Clone> {
    pub(super) core: Arc<Core<C, F>>,
    pub(super) id: ConnectionId,
}

impl<C, F: Clone> Drop for Lease<C, F> {
    fn drop(&mut self) {
        self.core.released(self.id);
    }
}
