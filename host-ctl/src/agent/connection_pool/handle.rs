//! A caller's hold on a pooled connection.

use std::fmt;
use std::sync::Arc;

use super::caller::Lease;
use super::dialer::Dialer;
use super::error::{DialError, Fault, Poison, UseError};
use super::key::Key;

/// A hold on a connection that others may hold too. Dropping it gives it back; dropped by a panic, it poisons the
/// connection.
pub struct Handle<D: Dialer> {
    lease: Lease<D::Connection, Arc<DialError<D::Error>>>,
    key: Key,
}

impl<D: Dialer> Handle<D> {
    pub(super) fn new(lease: Lease<D::Connection, Arc<DialError<D::Error>>>, key: Key) -> Handle<D> {
        Handle { lease, key }
    }

    /// Where the connection leads.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Runs one operation on the connection. Others may run theirs at the same time.
    ///
    /// The connection is poisoned when the operation panics, when this future is dropped before the operation has
    /// ended, and when the operation's error [says so](Fault). An operation must not keep the connection beyond
    /// its end.
    ///
    /// # Errors
    /// [`UseError::Failed`] is the operation's own error; [`UseError::Poisoned`] when the connection was poisoned
    /// before or meanwhile, and then the operation has been dropped.
    pub async fn perform<T, E: Fault, F: Future<Output = Result<T, E>>>(
        &self,
        operation: impl FnOnce(Arc<D::Connection>) -> F,
    ) -> Result<T, UseError<E>> {
        let connection = self.lease.core.connection(self.lease.id).map_err(UseError::Poisoned)?;
        let unfinished = Unfinished { handle: self };
        let outcome = tokio::select! {
            biased;
            outcome = operation(connection) => outcome,
            poison = self.poisoned() => {
                unfinished.finish();
                return Err(UseError::Poisoned(poison));
            }
        };
        unfinished.finish();
        if let Some(poison) = outcome.as_ref().err().and_then(Fault::fault) {
            self.poison(poison);
        }
        outcome.map_err(UseError::Failed)
    }

    /// Lets nobody use the connection any more, and wakes the other holders.
    pub fn poison(&self, reason: Poison) {
        self.lease.core.poison(self.lease.id, reason);
    }

    /// Waits until the connection is not to be used any more, and says why.
    pub async fn poisoned(&self) -> Poison {
        self.lease.core.poisoned(self.lease.id).await
    }
}

impl<D: Dialer> fmt::Debug for Handle<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("key", &self.key).finish_non_exhaustive()
    }
}

impl<D: Dialer> Drop for Handle<D> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.poison(Poison::Panicked);
        }
    }
}

/// A use under way.
struct Unfinished<'a, D: Dialer> {
    handle: &'a Handle<D>,
}

impl<D: Dialer> Unfinished<'_, D> {
    fn finish(self) {
        std::mem::forget(self);
    }
}

impl<D: Dialer> Drop for Unfinished<'_, D> {
    fn drop(&mut self) {
        self.handle.poison(if std::thread::panicking() { Poison::Panicked } else { Poison::Unfinished });
    }
}
