//! A wait for something in the pool's state.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::core::{Core, State};
use super::policy::{ConnectionId, Ticket};

/// What a wait is about; an event wakes those whose topic it touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    Ticket(Ticket),
    Connection(ConnectionId),
    Pool,
}

/// Ends when `look` finds in the state what it waits for.
pub(super) struct Until<'a, C, F, L> {
    core: &'a Core<C, F>,
    topic: Topic,
    look: L,
    registration: Option<u64>,
}

impl<'a, C, F, T, L: FnMut(&mut State<C, F>) -> Option<T>> Until<'a, C, F, L> {
    pub(super) fn new(core: &'a Core<C, F>, topic: Topic, look: L) -> Until<'a, C, F, L> {
        Until { core, topic, look, registration: None }
    }
}

impl<C, F, T, L: FnMut(&mut State<C, F>) -> Option<T> + Unpin> Future for Until<'_, C, F, L> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Until { core, topic, look, registration } = self.get_mut();
        let mut state = core.lock();
        if let Some(found) = look(&mut state) {
            return Poll::Ready(found);
        }
        let replaced = state.register(*topic, registration, context.waker().clone());
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl<C, F, L> Drop for Until<'_, C, F, L> {
    fn drop(&mut self) {
        if let Some(registration) = self.registration {
            let waker = self.core.lock().deregister(self.topic, registration);
            drop(waker);
        }
    }
}
