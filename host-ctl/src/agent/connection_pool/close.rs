//! The end of a pool.

use tokio::time::{Instant, timeout_at};

use super::{Dialer, Pool};

/// How a pool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Drained {
    /// Connections that were still held at the deadline, and closed nevertheless.
    pub cut: usize,
}

impl<D: Dialer> Pool<D> {
    /// Takes no more callers, refuses those who wait, stops dials under way, lets holders finish until `deadline`,
    /// and then takes their connections from them. Afterwards the pool has no connection and no task. It ends at
    /// the latest [`CLOSE_LIMIT`](super::CLOSE_LIMIT) after the deadline, and may be called more than once.
    pub async fn close(&self, deadline: Instant) -> Drained {
        self.core.shut();
        let cut = match timeout_at(deadline, self.core.drained()).await {
            Ok(()) => 0,
            Err(_) => self.core.cut(),
        };
        // From here each driver ends by itself, its close being bounded; and with the last of them the supervisor.
        self.core.drained().await;
        let mut supervisor = self.supervisor.lock().await;
        if !supervisor.is_finished() {
            // An error would be a panic of the supervisor, and it would be over just the same.
            let _ = (&mut *supervisor).await;
        }
        Drained { cut }
    }
}
