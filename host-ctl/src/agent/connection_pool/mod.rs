//! Connections to agents, shared and kept for a while.
//!
//! ```text
//!   caller ──acquire──►┌──────────────────────────────┐
//!          ◄──handle───│ core: one lock, every wait   │◄──job──── supervisor, the pool's one task
//!                      │  ┌────────────────────────┐  │               │ spawns
//!   holder ──perform──►│  │ policy: pure decisions │  │               ▼
//!          ──poison───►│  └────────────────────────┘  │◄──events── driver, a task a connection:
//!          ◄─poisoned──│                              │──orders──►   dial … until it has to go … close
//!   handle ──drop─────►└──────────────────────────────┘
//! ```
//!
//! * A connection belongs to a [`Key`]: one boot of one VM. Word of a later boot poisons the connections to
//!   earlier ones.
//! * All callers for a target share one connection, and one dial, which the pool runs: whoever asked first may leave.
//! * A connection is handed out until its TTL, counted from the start of its dial; those who hold it then may finish.
//! * There are at most [`MAX_TARGETS`] targets. For another, an idle one is closed, the least recently used first;
//!   when none is idle, callers wait in line until their deadlines.
//!
//! Streams do not come from here: they take a connection each (see `agent`). Tested with a dialer that only
//! counts, under tokio's virtual time; the policy against a naive model of itself; the core under a scheduler that
//! explores interleavings.

mod agent_fault;
mod caller;
mod close;
mod core;
mod dialer;
mod drive;
mod error;
mod handle;
mod key;
mod policy;
mod settings;
mod sync;
mod until;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::Mutex as AsyncMutex;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout_at};

use self::core::{Core, Refused};
use self::drive::{DialerCore, supervise};
use self::policy::{Limits, Policy};

pub use self::close::Drained;
pub use self::dialer::Dialer;
pub use self::error::{AcquireError, DialError, Fault, Limit, Poison, UseError};
pub use self::handle::Handle;
pub use self::key::{Generation, Key};
pub use self::settings::{
    CLOSE_LIMIT, DEFAULT_TTL, DIAL_LIMIT, MAX_CONNECTIONS, MAX_TARGETS, MAX_TTL, MAX_WAITERS, Settings,
    TTL_VARIABLE, TtlError, parse_ttl,
};

/// Connections of one kind; see the module.
///
/// Dropping it aborts its tasks and drops its connections without closing them; [`Pool::close`] is the orderly end.
pub struct Pool<D: Dialer> {
    core: Arc<DialerCore<D>>,
    supervisor: AsyncMutex<JoinHandle<()>>,
    abort: AbortHandle,
}

impl<D: Dialer> Pool<D> {
    /// An empty pool. Must be called within a tokio runtime, in which its tasks run.
    pub fn new(dialer: D, settings: Settings) -> Pool<D> {
        let began = Instant::now();
        let limits = Limits { targets: MAX_TARGETS, connections: MAX_CONNECTIONS, waiters: MAX_WAITERS };
        let core = Arc::new(Core::new(Policy::new(limits, settings.ttl), move || began.elapsed()));
        let supervisor = tokio::spawn(supervise(Arc::clone(&core), Arc::new(dialer), began));
        Pool { core, abort: supervisor.abort_handle(), supervisor: AsyncMutex::new(supervisor) }
    }

    /// A hold on the connection to `key`, which is made if there is none. Dropping the future gives the place up;
    /// a dial that it set off goes on for the others, and for who comes next.
    ///
    /// # Errors
    /// [`AcquireError::Busy`] when there was no room until the deadline, [`AcquireError::TimedOut`] when there was
    /// and the dial is not done, [`AcquireError::Dial`] when it failed, and the other kinds at once.
    pub async fn acquire(&self, key: &Key, deadline: Instant) -> Result<Handle<D>, AcquireError<D::Error>> {
        let caller = self.core.acquire(key);
        let answer = match timeout_at(deadline, caller.answer()).await {
            Ok(answer) => answer,
            Err(_) => caller.give_up(),
        };
        answer.map(|lease| Handle::new(lease, key.clone())).map_err(AcquireError::from)
    }

    /// Says that the VM of `key` was booted or restored: connections to its earlier boots are poisoned. An acquire
    /// says so too.
    pub fn supersede(&self, key: &Key) {
        self.core.supersede(key);
    }
}

impl<D: Dialer> Drop for Pool<D> {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl<E> From<Refused<Arc<DialError<E>>>> for AcquireError<E> {
    fn from(refused: Refused<Arc<DialError<E>>>) -> Self {
        match refused {
            Refused::Dial(error) => AcquireError::Dial(error),
            Refused::Busy(limit) => AcquireError::Busy(limit),
            Refused::TimedOut => AcquireError::TimedOut,
            Refused::Superseded { newer } => AcquireError::Superseded { newer },
            Refused::Closed => AcquireError::Closed,
        }
    }
}
