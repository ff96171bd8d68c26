//! Whether requests are served. A guest that is about to be saved finishes what is under way and lets nobody in.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firstlight_protocol::message::Kind;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::wire::Socket;

/// The gate.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
    /// Told when a request or a session ends.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    held: bool,
    /// Requests under way that end by themselves.
    running: usize,
    sessions: HashMap<u64, Socket>,
    next_session: u64,
}

/// The gate is held already.
#[derive(Debug, PartialEq, Eq)]
pub struct Held;

/// One connection past its hello.
#[derive(Debug)]
pub struct Session<'a> {
    gate: &'a Gate,
    id: u64,
}

/// A request under way, whatever becomes of its connection.
#[derive(Debug)]
pub struct Running(Option<Arc<Gate>>);

impl Gate {
    /// Lets nobody in from now on.
    ///
    /// # Errors
    /// [`Held`] when somebody else holds it.
    pub fn hold(&self) -> Result<(), Held> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.held, true) { Err(Held) } else { Ok(()) }
    }

    /// Lets everybody in.
    pub fn open(&self) {
        self.lock().held = false;
        self.changed.notify_waiters();
    }

    /// Waits until everybody is let in.
    pub async fn opened(&self) {
        self.wait(Duration::MAX, |state| !state.held).await;
    }

    /// Whether nobody is let in.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.lock().held
    }

    /// A connection has shown its token.
    pub fn connect(&self, socket: Socket) -> Session<'_> {
        let mut state = self.lock();
        state.next_session += 1;
        let id = state.next_session;
        state.sessions.insert(id, socket);
        Session { gate: self, id }
    }

    /// Begins a request; `None` while the gate is held.
    pub fn enter(self: &Arc<Self>, kind: Kind) -> Option<Running> {
        let mut state = self.lock();
        if state.held {
            return None;
        }
        let counts = !lasts(kind);
        state.running += usize::from(counts);
        Some(Running(counts.then(|| Arc::clone(self))))
    }

    /// Waits until no request is under way that ends by itself; `false` when that takes longer than `patience`.
    pub async fn drain(&self, patience: Duration) -> bool {
        self.wait(patience, |state| state.running == 0).await
    }

    /// Ends every connection but `mine`, and waits until each is gone; `false` when that takes longer than `patience`.
    pub async fn disconnect_others(&self, mine: &Session<'_>, patience: Duration) -> bool {
        for (id, socket) in &self.lock().sessions {
            if *id != mine.id {
                socket.shut_down();
            }
        }
        self.wait(patience, |state| state.sessions.len() <= 1).await
    }

    async fn wait(&self, patience: Duration, holds: impl Fn(&State) -> bool) -> bool {
        let until = async {
            loop {
                // Listens before it looks, so that no change falls between the two.
                let changed = self.changed.notified();
                if holds(&self.lock()) {
                    return;
                }
                changed.await;
            }
        };
        timeout(patience, until).await.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment, so a holder that panicked has left nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.gate.lock().sessions.remove(&self.id);
        self.gate.changed.notify_waiters();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(gate) = &self.0 {
            gate.lock().running -= 1;
            gate.changed.notify_waiters();
        }
    }
}

/// Whether a request lasts as long as its connection: waiting for it would be waiting for ever.
fn lasts(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::SessionStartRequest
            | Kind::SessionAttachRequest
            | Kind::SessionWaitRequest
            | Kind::OutputRequest
            | Kind::ForwardRequest
            | Kind::ForwardTakeRequest
            | Kind::ForwardListenRequest
            | Kind::PortsRequest
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_is_waited_for_and_a_new_one_is_not_let_in() {
        let gate = Arc::new(Gate::default());
        let running = gate.enter(Kind::BatchRequest);
        assert!(running.is_some());
        gate.hold().unwrap();
        assert_eq!(gate.hold(), Err(Held));
        assert!(gate.enter(Kind::Ping).is_none());
        assert!(!gate.drain(SOON).await);
        drop(running);
        assert!(gate.drain(SOON).await);
        gate.open();
        assert!(gate.enter(Kind::Ping).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_as_long_as_its_connection_is_not_waited_for() {
        let gate = Arc::new(Gate::default());
        let _running = gate.enter(Kind::OutputRequest);
        assert!(gate.drain(SOON).await);
    }
}
