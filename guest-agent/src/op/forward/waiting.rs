//! Connections that listeners in the guest accepted and the host has not taken yet.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firstlight_socket::Stream;
use nix::sys::stat::fstat;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

/// How long the host has to take or decline a connection. It needs one dial, so this is for a host that hangs.
const TAKE_DEADLINE: Duration = Duration::from_secs(10);

/// What all listeners of the agent share. Each of them bounds its own share.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next_ticket: u64,
    /// By ticket, which is by age: all have the same time.
    connections: BTreeMap<u64, Offer>,
    /// The socket inodes of the agent's own listeners.
    listeners: BTreeSet<u64>,
}

#[derive(Debug)]
struct Offer {
    stream: Stream,
    listener: u64,
    until: Instant,
    _place: Option<OwnedSemaphorePermit>,
}

impl Waiting {
    /// Takes note of a listener until the answer is dropped, and of what it offers.
    pub(super) fn register(self: &Arc<Self>, listener: &impl AsFd) -> std::io::Result<Registered> {
        let inode = fstat(listener)?.st_ino;
        self.lock().listeners.insert(inode);
        Ok(Registered { waiting: Arc::clone(self), inode })
    }

    /// Gives the connection of a ticket away.
    pub(super) fn take(&self, ticket: u64) -> Option<Stream> {
        self.lock().connections.remove(&ticket).map(|offer| offer.stream)
    }

    /// Whether a listening socket is the agent's own.
    pub(super) fn is_own(&self, inode: u64) -> bool {
        self.lock().listeners.contains(&inode)
    }

    /// Resets the connections that nobody took in time; gives when the next one will be due.
    pub(super) fn expire(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        while let Some(oldest) = state.connections.first_entry() {
            if oldest.get().until > now {
                return Some(oldest.get().until);
            }
            oldest.remove();
        }
        None
    }

    /// No code panics while it holds the lock, and the maps would be whole if it did.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener that is known. Dropping it resets what it offered and nobody took.
#[derive(Debug)]
pub(super) struct Registered {
    waiting: Arc<Waiting>,
    inode: u64,
}

impl Registered {
    /// Keeps a connection for the host, in `place` of the listener's share; gives its ticket.
    pub(super) fn offer(&self, stream: Stream, place: Option<OwnedSemaphorePermit>, now: Instant) -> u64 {
        let mut state = self.waiting.lock();
        state.next_ticket += 1;
        let ticket = state.next_ticket;
        let until = now + TAKE_DEADLINE;
        state.connections.insert(ticket, Offer { stream, listener: self.inode, until, _place: place });
        ticket
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut state = self.waiting.lock();
        state.listeners.remove(&self.inode);
        state.connections.retain(|_, offer| offer.listener != self.inode);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use tokio::net::UnixStream;
    use tokio::sync::Semaphore;

    struct World {
        waiting: Arc<Waiting>,
        places: Arc<Semaphore>,
        /// Any open file will do in a listener's place.
        listener: OwnedFd,
    }

    impl World {
        fn new() -> World {
            World {
                waiting: Arc::default(),
                places: Arc::new(Semaphore::new(2)),
                listener: tempfile::tempfile().unwrap().into(),
            }
        }

        fn offer(&self, listener: &Registered, now: Instant) -> u64 {
            let place = Arc::clone(&self.places).try_acquire_owned().ok();
            assert!(place.is_some());
            listener.offer(Stream::Unix(UnixStream::pair().unwrap().0), place, now)
        }
    }

    #[tokio::test]
    async fn a_connection_is_taken_once_and_frees_its_place() {
        let world = World::new();
        let listener = world.waiting.register(&world.listener).unwrap();
        let ticket = world.offer(&listener, Instant::now());
        assert!(world.waiting.take(ticket + 1).is_none());
        assert!(world.waiting.take(ticket).is_some());
        assert!(world.waiting.take(ticket).is_none());
        assert_eq!(world.places.available_permits(), 2);
    }

    #[tokio::test]
    async fn what_nobody_takes_is_dropped_in_time_and_no_earlier() {
        let world = World::new();
        let listener = world.waiting.register(&world.listener).unwrap();
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let (first, second) = (world.offer(&listener, start), world.offer(&listener, later));
        assert_eq!(world.waiting.expire(later), Some(start + TAKE_DEADLINE));
        assert_eq!(world.waiting.expire(start + TAKE_DEADLINE), Some(later + TAKE_DEADLINE));
        assert!(world.waiting.take(first).is_none());
        assert!(world.waiting.take(second).is_some());
        assert_eq!(world.waiting.expire(later), None);
    }

    #[tokio::test]
    async fn a_listener_that_ends_takes_its_offers_along() {
        let world = World::new();
        let listener = world.waiting.register(&world.listener).unwrap();
        let inode = listener.inode;
        let ticket = world.offer(&listener, Instant::now());
        assert!(world.waiting.is_own(inode));
        drop(listener);
        assert!(!world.waiting.is_own(inode));
        assert!(world.waiting.take(ticket).is_none());
    }
}
